"""The LoRA layers and their injection, on a table of architectures (design, section 5)."""

import copy
from collections.abc import Iterator

import pytest
import torch
from e3nn.nn import FullyConnectedNet
from e3nn.util.test import assert_equivariant
from torch import nn

from lora import inject_lora, merge_lora_weights
from lora.adapters.inject import lora_layers
from lora.adapters.lora import LoRADenseLinear, LoRAFCLayer, LoRAO3Linear
from lora.errors import UserError
from lora.mace.door import default_dtype, o3
from lora.mace.graphs import batches, graphs
from lora.mace.modules import count_parameters
from tests.support.models import BASE, CASES, difference, make_model, outputs, perturb, structures


def test_only_adapters_move() -> None:
    model = make_model()
    reference = copy.deepcopy(model.state_dict())
    inject_lora(model, rank=2)
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trainable and all(n.endswith(("lora_A", "lora_B")) for n in trainable)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    batch = next(batches(graphs(structures(), model), 10))
    for _ in range(2):  # at the first step only B moves, as B = 0 hides A
        optimizer.zero_grad()
        out = model(batch.to_dict(), training=True)
        (out["energy"].square().sum() + out["forces"].square().sum()).backward()
        optimizer.step()
    moved = model.state_dict()
    for name, value in reference.items():
        stem, _, leaf = name.rpartition(".")
        wrapped = f"{stem}.base.{leaf}"
        assert torch.equal(moved[wrapped if wrapped in moved else name], value)
    for name in trainable:
        factor = model.get_parameter(name)
        assert factor.abs().max() > 0.01, name


def test_counts() -> None:
    model = make_model()
    n = sum(p.numel() for p in model.parameters())
    inject_lora(model, rank=2)
    trainable, total = count_parameters(model)
    by_hand = sum(x.lora_A.numel() + x.lora_B.numel() for _, x in lora_layers(model))
    assert (trainable, total) == (by_hand, n + by_hand)


@pytest.fixture
def double() -> Iterator[None]:
    """e3nn makes its constants in the default dtype."""
    with default_dtype(torch.float64):
        yield


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("scaling", ["mace", "rank_stable"])
def test_layer_is_equivariant_and_follows_the_formula(scaling: str) -> None:
    torch.manual_seed(0)
    base = o3.Linear("4x0e + 3x1o + 2x0e", "5x0e + 2x1o + 2x2e", biases=True)
    layer = LoRAO3Linear(base, rank=2, alpha=3.0, scaling=scaling)
    assert (layer.lora_A.abs() < 1e-2).all() and (layer.lora_A != 0).all()  # N(0, 1e-3)
    assert (layer.lora_B == 0).all()
    perturb(nn.ModuleDict({"x": layer}))
    assert_equivariant(layer, irreps_in=base.irreps_in, irreps_out=base.irreps_out)
    x = torch.randn(7, base.irreps_in.dim)
    change = layer(x) - base(x)
    assert change.abs().max() > 1e-3
    if scaling == "mace":  # y = W x + (alpha/r) B(A(x)), with e3nn's own maps
        bottleneck = o3.Irreps([(2, ir) for ir in layer.host.shared])
        a = o3.Linear(base.irreps_in, bottleneck)
        b = o3.Linear(bottleneck, base.irreps_out)
        with torch.no_grad():
            a.weight.copy_(layer.lora_A)
            b.weight.copy_(layer.lora_B)
        assert torch.allclose(change, 1.5 * b(a(x)), atol=1e-12)


def test_rank_stable_is_the_same_for_every_layer_type() -> None:
    model = make_model()
    inject_lora(model, rank=4, alpha=3.0, scaling="rank_stable")
    assert {layer.scale for _, layer in lora_layers(model)} == {1.5}


def test_wrap_switches() -> None:
    equivariant, dense, both = (make_model() for _ in range(3))
    a = inject_lora(equivariant, rank=1, wrap_dense=False)
    b = inject_lora(dense, rank=1, wrap_equivariant=False)
    assert sorted(a + b) == inject_lora(both, rank=1) and a and b


def test_refusals() -> None:
    model = make_model(BASE)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        inject_lora(copy.deepcopy(model), rank=0)
    with pytest.raises(ValueError, match="scaling must be one of"):
        inject_lora(copy.deepcopy(model), scaling="peft")
    with pytest.raises(ValueError, match="nothing to wrap"):
        inject_lora(nn.Sequential(nn.ReLU()))
    inject_lora(model)
    with pytest.raises(ValueError, match="LoRA layers already"):
        inject_lora(model)
    with pytest.raises(ValueError, match="share no irrep"):
        LoRAO3Linear(o3.Linear("2x0e", "2x1o"))


# --- targets


def test_include_exclude_and_patterns() -> None:
    model = make_model()
    targets = {
        "include": ["interactions.*", "readouts.*"],
        "exclude": ["*.conv_tp_weights.*"],
        "rank_pattern": {"readouts.*": 1, "interactions.1.*": 5},
        "alpha_pattern": {"*.linear_up": 7.0},
    }
    wrapped = inject_lora(model, rank=3, alpha=2.0, targets=targets)
    assert wrapped == [
        "interactions.0.linear",
        "interactions.0.linear_up",
        "interactions.1.linear",
        "interactions.1.linear_up",
        "readouts.0.linear",
        "readouts.1.linear_1",
        "readouts.1.linear_2",
    ]
    layers = dict(lora_layers(model))
    assert {name: (x.rank, x.alpha) for name, x in layers.items()} == {
        "interactions.0.linear": (3, 2.0),
        "interactions.0.linear_up": (3, 7.0),
        "interactions.1.linear": (5, 2.0),
        "interactions.1.linear_up": (5, 7.0),
        "readouts.0.linear": (1, 2.0),
        "readouts.1.linear_1": (1, 2.0),
        "readouts.1.linear_2": (1, 2.0),
    }


@pytest.mark.parametrize("irrep", ["0e", "1o"])
def test_one_irrep_is_adapted_and_the_others_are_not(irrep: str) -> None:
    base, model = make_model(CASES[2]), make_model(CASES[2])  # max_L 2
    wrapped = inject_lora(model, rank=2, targets={"irreps": [irrep]})
    perturb(model, size=3.0)
    before, after = outputs(base), outputs(model)
    assert difference(before, after) > 1e-3
    assert any("conv_tp_weights" in name for name in wrapped) == (irrep == "0e")
    for name, layer in lora_layers(model):
        if not isinstance(layer, LoRAO3Linear):
            continue
        start = 0
        for ins in layer.base.instructions:
            size = ins.path_shape[0] * ins.path_shape[1]
            block = layer.delta()[start : start + size]
            wanted = str(layer.host.irreps_in[ins.i_in].ir) == irrep
            assert (block.abs().max() > 0) == wanted, name
            start += size
    assert difference(outputs(merge_lora_weights(model, inplace=False)), after) < 1e-9


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"include": ["interaction.*"]}, "'interaction.*' matches no layer; layers: node_emb"),
        ({"exclude": ["nothing"]}, "'nothing' matches no layer"),
        ({"rank_pattern": {"linearup": 3}}, "'linearup' matches no layer"),
        ({"exclude": ["*"]}, "exclude and irreps leave no layer"),
        ({"only": ["*"]}, "targets.only is not known; use alpha_pattern, exclude"),
        ({"include": "*"}, "targets.include: '\\*' must be a list"),
    ],
    ids=["include", "exclude", "rank_pattern", "all_out", "key", "text"],
)
def test_targets_that_miss_are_said(targets: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        inject_lora(make_model(), targets=targets)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("cls", [LoRADenseLinear, LoRAFCLayer])
def test_dense_layers_follow_the_formula(cls: type) -> None:
    """With variances, activation and bias that MACE itself does not use today."""
    torch.manual_seed(0)
    x = torch.randn(6, 5)
    if cls is LoRADenseLinear:
        bases, transposed = [nn.Linear(5, 3)], True
    else:
        net = FullyConnectedNet([5, 4, 3], torch.tanh, variance_in=2.0, variance_out=3.0)
        bases, transposed = [net[0]], False
        bases.append(FullyConnectedNet([5, 3], None, variance_in=2.0, variance_out=3.0)[0])
    for base in bases:
        layer = cls(base, rank=2, alpha=3.0)
        assert torch.allclose(layer(x), base(x), atol=1e-14)
        perturb(nn.ModuleDict({"x": layer}))
        a, b = (layer.lora_B, layer.lora_A) if transposed else (layer.lora_A, layer.lora_B)
        changed = copy.deepcopy(base)
        with torch.no_grad():
            changed.weight += 1.5 * a @ b
        assert torch.allclose(layer(x), changed(x), atol=1e-13)
        assert (layer(x) - base(x)).abs().max() > 1e-3
