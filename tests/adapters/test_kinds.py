"""What the kinds beside LoRA compute, by hand; `test_change.py` has what holds for every kind."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, save_adapter, unload_lora
from lora.adapters.dora import DoRA
from lora.adapters.inject import lora_layers, ranks
from lora.adapters.kinds import KINDS
from lora.adapters.products import ContractionHost, SkipHost
from lora.adapters.sparse import Sparse
from lora.mace.door import default_dtype, o3
from lora.mace.elements import trim_elements
from lora.mace.kernels import to_kernel
from tests.support.models import difference, make_model, outputs, perturb, structures

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}
NEW = [kind for kind in KINDS if kind != "lora"]


def equivariant(kind: type, rank: int = 2) -> tuple:
    """An adapter of an equivariant layer with an output that is zero, and its matrices."""
    torch.manual_seed(0)
    with default_dtype(torch.float64):
        base = o3.Linear("4x0e + 3x1o + 2x0e", "5x0e + 2x1o")
    layer = kind(base, rank=rank, alpha=3.0)
    with torch.no_grad():
        whole = layer.host.matrices(layer.base_weight())
        whole["0e"][:, 1] = 0
        layer.set_base_weight(layer.host.assemble(whole))
    return layer, whole


# --- DoRA


def test_dora_follows_the_formula() -> None:
    layer, base = equivariant(DoRA)
    assert torch.equal(layer.weight(), layer.base_weight())  # at the start, to the last bit
    perturb(nn.ModuleDict({"x": layer}))
    a, b, m = (layer.matrices(name, layer.values()) for name in layer.axes)
    changed = layer.host.matrices(layer.weight())
    for part, w in base.items():
        v = w + 3.0 / 2**1.5 * a[part] @ b[part]
        lengths = (1 + m[part]) * w.norm(dim=0) / v.norm(dim=0)
        if part == "0e":  # an output without a length of its own
            lengths[1] = 1 + m[part][1]
        assert torch.allclose(changed[part], lengths * v, atol=1e-14)
        some = w.norm(dim=0) > 0
        ratio = changed[part].norm(dim=0)[some] / w.norm(dim=0)[some]
        assert torch.allclose(ratio, (1 + m[part][some]).abs(), atol=1e-14)


def test_dora_of_an_output_that_is_zero_trains_without_nan() -> None:
    layer, _ = equivariant(DoRA)
    optimizer = torch.optim.Adam(layer.values().values(), lr=0.01)
    for _ in range(3):  # in the first step V is zero there, too
        optimizer.zero_grad()
        layer.weight().sub(0.5).square().sum().backward()
        assert all(x.grad.isfinite().all() for x in layer.values().values())
        optimizer.step()
    column = layer.host.matrices(layer.weight())["0e"][:, 1]
    assert column.isfinite().all() and column.abs().max() > 0  # and it does move


def test_dora_leaves_rows_that_it_does_not_read() -> None:
    layer, base = equivariant(DoRA)
    perturb(nn.ModuleDict({"x": layer}))
    with torch.no_grad():
        layer.matrices("lora_A", layer.values())["1o"][2] = 0  # a view of the parameter
        changed = layer.host.matrices(layer.weight())["1o"]
    assert torch.equal(changed[2], base["1o"][2])
    m = layer.matrices("magnitude", layer.values())["1o"]
    expected = (1 + m).abs() * base["1o"][:2].norm(dim=0)
    assert torch.allclose(changed[:2].norm(dim=0), expected, atol=1e-14)


# --- sparse


def entries(layer: Sparse) -> dict[str, torch.Tensor]:
    """Which entries of the matrices change, inputs first."""
    layer.set_values({name: torch.ones_like(x) for name, x in layer.values().items()})
    with torch.no_grad():
        found = {k: x != 0 for k, x in layer.host.matrices(layer.delta()).items()}
    return {k: x.mT if layer.host.outputs_first else x for k, x in found.items()}


def test_sparse_entries_are_even_and_nested() -> None:
    low, high = (entries(equivariant(Sparse, rank)[0]) for rank in (1, 2))
    for part, n_outputs in (("0e", 5), ("1o", 2)):
        assert (high[part].sum(1) == 2).all() and (low[part].sum(1) == 1).all()
        assert (high[part] | low[part]).equal(high[part])
        assert high[part].any(0).sum() == n_outputs  # all outputs are reached
    layer, _ = equivariant(Sparse)
    perturb(nn.ModuleDict({"x": layer}))
    d = layer.host.matrices(layer.delta())["1o"] / layer.scale
    values = layer.matrices("entries", layer.values())["1o"]  # [3, 2], of the outputs 0, 0 and 1 on
    assert torch.allclose(d[:2], values[:2]) and torch.allclose(d[2], values[2].flip(0))
    assert layer.scale == 1.5


def test_sparse_has_the_same_entries_for_all_elements() -> None:
    model = make_model()
    inject_lora(model, rank=2, kind="sparse", targets=PRODUCTS)
    layers = dict(lora_layers(model))
    by_element = [x for x in layers.values() if isinstance(x.host, (SkipHost, ContractionHost))]
    assert len(by_element) > 2
    for layer in [*by_element, layers["node_embedding.linear"]]:
        shapes = layer.host.element_shapes()
        for (before, n, after), (_, x) in zip(shapes, entries(layer).items(), strict=True):
            each = x.view(before, n, after, -1)
            assert each.any() and not each.all()
            assert torch.equal(each, each[:, :1].expand_as(each))
            assert torch.equal(x, entries(layer.like(2))[_])  # as packs and cuts make them


def test_sparse_warns_of_a_rank_above_the_outputs() -> None:
    model = make_model()
    inject_lora(model, rank=2, kind="sparse", targets={"include": ["readouts.1.linear_1"]})
    assert ranks(model) == {"readouts.1.linear_1": (2, 6)}  # of 4 inputs and 6 outputs


# --- whole modules beside them


@pytest.mark.parametrize("kind", NEW)
def test_whole_readouts_beside_them(kind: str, tmp_path: Path) -> None:
    """Trained on a trimmed model, saved, loaded onto the full one and taken off again."""
    model = trim_elements(make_model(), [1, 6, 8])
    names = inject_lora(model, rank=2, kind=kind, modules_to_save=["readouts"])
    assert names and not any("readouts" in name for name in names)
    perturb(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("readouts"):
                assert parameter.requires_grad
                parameter.add_(0.1)
    save_adapter(model, tmp_path)
    full = make_model()
    known = [atoms for atoms in structures() if set(atoms.numbers) <= {1, 6, 8}]
    before = outputs(full, known)
    load_adapter(full, tmp_path)
    assert difference(outputs(full, known), outputs(model, known)) < 1e-11
    assert difference(outputs(full, known), before) > 1e-3
    assert difference(outputs(unload_lora(full), known), before) == 0


# --- cuEquivariance


@pytest.mark.parametrize("kind", NEW)
def test_on_cueq_they_are_e3nns(kind: str) -> None:
    pytest.importorskip("cuequivariance_torch")
    plain, fast = make_model(), to_kernel(make_model(), "cueq")
    for model in (plain, fast):
        inject_lora(model, rank=2, kind=kind, targets=PRODUCTS)
    perturb(plain)
    values = {n: p for n, p in plain.named_parameters() if p.requires_grad}
    assert values and not fast.load_state_dict(values, strict=False).unexpected_keys
    assert difference(outputs(fast), outputs(plain)) < 1e-9
    assert difference(outputs(plain), outputs(make_model())) > 1e-3
