"""Adapters, and modules trained as a whole, taken off again: the base is there, to the last bit."""

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter, unload_lora
from lora.adapters.algebra import add_adapters, disabled, scale_adapters, truncate_lora, unmerge
from lora.adapters.inject import injection_of, lora_layers
from lora.adapters.saved import load_adapted, read_card
from lora.calculators.committee import Committee
from lora.errors import UserError
from lora.files.sealed import write_torch
from lora.mace.elements import set_e0s, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.heads import own_head, two_heads
from lora.plan.targets import Targets
from tests.support import counts
from tests.support.models import (
    CASES,
    ONE_HEAD,
    Case,
    difference,
    make_model,
    outputs,
    perturb,
    structures,
)

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}
WHOLE = {"none": (), "readouts": ("readouts",), "elements": ("products.0", "node_embedding")}
ALL, SAVED = counts.covering(CASES, WHOLE), counts.covering(ONE_HEAD, WHOLE)


def whole(request: str) -> Targets:
    return Targets(**PRODUCTS, modules_to_save=WHOLE[request])


def train(model: nn.Module, seed: int = 1) -> None:
    """Move all that asks for a gradient, plainly."""
    perturb(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    factors = {id(p) for _, layer in lora_layers(model) for p in layer.values().values()}
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad and id(p) not in factors:
                p.mul_(1 + 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))


def state(model: nn.Module) -> dict[str, tuple[torch.Tensor, bool]]:
    asks = {name: p.requires_grad for name, p in model.named_parameters()}
    return {n: (x.clone(), asks.get(n, False)) for n, x in model.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[n][0], b[n][0]) and a[n][1] == b[n][1] for n in a
    )


@pytest.mark.long
@pytest.mark.parametrize(("case", "kind"), ALL, ids=counts.named(ALL))
def test_unloaded_is_the_base(case: Case, kind: str) -> None:
    model = make_model(case)
    model.readouts.requires_grad_(False)
    model.train()
    before, start = state(model), outputs(model, of(case))
    inject_lora(model, rank=2, targets=whole(kind))
    train(model)
    set_e0s(model, {"H": -20.0})
    assert difference(outputs(model, of(case)), start) > 1e-3
    assert unload_lora(model) is model and model.training
    assert same(state(model), before)
    assert difference(outputs(model, of(case)), start) == 0
    assert not dict(lora_layers(model)) and not hasattr(model, "lora_injection")


def of(case: Case) -> list:
    """The structures, of a model with several heads half of them for each."""
    atoms = structures()
    for i, one in enumerate(atoms):
        one.info["head"] = case.heads[i % len(case.heads)]
    return atoms


def test_what_cannot_be_unloaded() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="holds no LoRA layers"):
        unload_lora(model)
    inject_lora(model)
    merge_lora_weights(model)
    with pytest.raises(ValueError, match="holds no LoRA layers"):
        unload_lora(model)


@pytest.mark.parametrize("kind", WHOLE)
def test_adapters_swapped_on_one_base(kind: str, tmp_path: Path) -> None:
    for i, name in enumerate("ab"):
        one = make_model()
        set_e0s(one, {"H": -10.0 - i, "O": -20.0} if i else {"H": -10.0})
        inject_lora(one, rank=2 + i, alpha=1.0 + i, targets=whole(kind))
        train(one, seed=i)
        save_adapter(one, tmp_path / name)
    model, a, b = make_model(), make_model(), make_model()
    load_adapter(a, tmp_path / "a")
    load_adapter(b, tmp_path / "b")
    with pytest.raises(ValueError, match="merge or unload them first"):
        load_adapter(a, tmp_path / "b")
    results = {"a": outputs(a), "b": outputs(b)}
    assert difference(results["a"], results["b"]) > 1e-3
    for name in "abba":
        load_adapter(model, tmp_path / name)
        assert difference(outputs(model), results[name]) == 0
        unload_lora(model)
    load_adapter(model, tmp_path / "b")
    assert same(state(model), state(b))


def test_an_adapter_that_does_not_fit_leaves_the_base(tmp_path: Path) -> None:
    one, model = make_model(), make_model()
    inject_lora(one, rank=2)
    one.lora_injection = injection_of(one).__class__(rank=3)  # of which the card will speak
    save_adapter(one, tmp_path)
    before = state(model)
    with pytest.raises(UserError, match="does not fit the model at") as caught:
        load_adapter(model, tmp_path)
    assert "\n" not in str(caught.value)
    assert same(state(model), before)


def test_a_pickled_model_with_adapters(tmp_path: Path) -> None:
    """It can be saved, to the base that is there, and unloaded."""
    model = make_model()
    inject_lora(model, rank=2, modules_to_save=["readouts"])
    train(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    save_adapter(again, tmp_path)
    full = make_model()
    load_adapter(full, tmp_path)
    assert difference(outputs(full), outputs(model)) == 0
    assert difference(outputs(unload_lora(again)), outputs(make_model())) == 0


# --- modules that train as a whole


def test_what_trains() -> None:
    model = make_model()
    names = inject_lora(model, rank=2, modules_to_save=["readouts.1", "products.*.linear"])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    expected = {f"{x}.{f}" for x in names for f in ("lora_A", "lora_B")}
    expected |= {"readouts.1.linear_1.weight", "readouts.1.linear_2.weight"}
    expected |= {f"products.{i}.linear.weight" for i in (0, 1)}
    assert trained == expected
    assert "readouts.0.linear" in names  # and no layer that trains anyway
    assert injection_of(model).targets.modules_to_save == ("readouts.1", "products.*.linear")
    merged = merge_lora_weights(model)
    assert all(p.requires_grad for _, p in merged.named_parameters())


def test_patterns_are_checked() -> None:
    model = make_model()
    before = state(model)
    for pattern in ("readout", "scale_shift", ""):
        with pytest.raises(UserError, match="matches no module with weights; modules: node_emb"):
            inject_lora(model, modules_to_save=[pattern])
    with pytest.raises(UserError, match="no layer to wrap outside of modules_to_save"):
        inject_lora(model, modules_to_save="*")
    assert same(state(model), before)


@pytest.mark.long
@pytest.mark.parametrize(("case", "kind"), SAVED, ids=counts.named(SAVED))
def test_saved_from_trimmed_and_merged(case: Case, kind: str, tmp_path: Path) -> None:
    """Saved from a trimmed model, loaded onto the full one, saved from there, merged."""
    model = trim_elements(make_model(case), [1, 6, 8])
    inject_lora(model, rank=2, targets=whole(kind))
    train(model)
    save_adapter(model, tmp_path / "a")
    base, full, again = (make_model(case) for _ in range(3))
    load_adapter(full, tmp_path / "a")
    save_adapter(full, tmp_path / "b")
    load_adapter(again, tmp_path / "b")
    atoms = [a for a in structures() if set(a.numbers) <= {1, 6, 8}]
    bound = 1e-10 if case.dtype == torch.float64 else 2e-3
    expected = outputs(model, atoms)
    assert difference(outputs(base, atoms), expected) > 1e-3
    assert difference(outputs(full, atoms), expected) < bound
    assert same(state(full), state(again))
    merged = merge_lora_weights(copy.deepcopy(full))
    assert difference(outputs(merged, atoms), expected) < bound
    assert merged.state_dict().keys() == base.state_dict().keys()
    for name, before in dict(base.named_parameters()).items():  # rows of nitrogen, trimmed away
        if name.endswith("contractions.0.weights_max") and not getattr(
            model.products[0], "use_agnostic_product", False
        ):
            row = base.atomic_numbers.tolist().index(7)
            assert torch.equal(merged.get_parameter(name)[row], before[row])
    assert difference(outputs(unload_lora(full), atoms), outputs(base, atoms)) == 0


@pytest.mark.parametrize("kind", ["readouts", "elements"])
def test_with_two_heads(kind: str, tmp_path: Path) -> None:
    base = make_model()
    model = trim_elements(two_heads(base), [1, 6, 8])
    inject_lora(model, rank=2, targets=whole(kind))
    train(model)
    save_adapter(model, tmp_path)
    assert read_card(tmp_path)["replay"]
    loaded = load_adapted(make_model(), tmp_path)
    merged = own_head(merge_lora_weights(copy.deepcopy(loaded)), base)
    atoms = [a for a in structures() if set(a.numbers) <= {1, 6, 8}]
    for one in atoms:
        one.info["head"] = "Default"
    expected = outputs(model, atoms)
    assert difference(outputs(loaded, atoms), expected) < 1e-10
    assert difference(outputs(merged, atoms), expected) < 1e-10
    assert difference(outputs(base, atoms), expected) > 1e-3
    with pytest.raises(UserError, match="has two heads"):
        load_adapter(make_model(), tmp_path)


@pytest.mark.parametrize("kind", WHOLE)
def test_disabled_and_scaled(kind: str) -> None:
    model, base = make_model(), make_model()
    inject_lora(model, rank=2, targets=whole(kind))
    train(model)
    on, off = outputs(model), outputs(base)
    with disabled(model):
        assert difference(outputs(model), off) == 0
    assert difference(outputs(model), on) == 0 and difference(on, off) > 1e-3
    trained = dict(merge_lora_weights(copy.deepcopy(model)).named_parameters())
    scale_adapters(model, 0.5)
    for name, p in merge_lora_weights(model).named_parameters():
        middle = (trained[name] + base.get_parameter(name)) / 2
        assert torch.allclose(p, middle, atol=1e-13), name


def test_cut_leaves_whole_modules(tmp_path: Path) -> None:
    model = make_model()
    inject_lora(model, rank=3, modules_to_save=["readouts"])
    train(model)
    readout = model.readouts[0].linear.weight.clone()
    truncate_lora(model, rank=1)
    save_adapter(model, tmp_path)
    full = make_model()
    load_adapter(full, tmp_path)
    assert torch.equal(full.readouts[0].linear.weight, readout)
    assert not torch.equal(make_model().readouts[0].linear.weight, readout)
    assert {layer.rank for _, layer in lora_layers(full)} == {1}
    assert difference(outputs(full), outputs(model)) == 0


def test_what_whole_modules_cannot_do(tmp_path: Path) -> None:
    for name in "ab":
        model = make_model()
        inject_lora(model, rank=2, modules_to_save=["readouts"])
        train(model)
        save_adapter(model, tmp_path / name)
    a, b = tmp_path / "a", tmp_path / "b"
    with pytest.raises(UserError, match=r"holds whole modules beside its adapter \(readouts\)"):
        add_adapters(make_model(), {a: 1.0, b: 1.0})
    with pytest.raises(UserError, match="holds whole modules"):
        unmerge(merge_lora_weights(model), b)
    write_torch(tmp_path / "base.model", make_model())
    assert load_foundation(tmp_path / "base.model")
    with pytest.raises(UserError, match="holds whole modules; a committee shares one base"):
        Committee(tmp_path / "base.model", [a, b])


def test_whole_modules_on_cueq_are_refused() -> None:
    pytest.importorskip("cuequivariance_torch")
    from lora.mace.kernels import to_kernel

    with pytest.raises(ValueError, match="readouts runs on cuEquivariance"):
        inject_lora(to_kernel(make_model(), "cueq"), modules_to_save=["readouts"])
