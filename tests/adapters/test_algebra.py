"""Adapters off, scaled, added: on energies and forces, against weights worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter
from lora.adapters.algebra import add_adapters, disabled, scale_adapters, unmerge
from lora.adapters.inject import lora_layers
from lora.errors import UserError
from lora.mace.elements import get_e0s, set_e0s
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from tests.support.models import BASE, make_model, perturb, structures


def forces(model: torch.nn.Module) -> np.ndarray:
    return predict(model, graphs(structures(), model))["forces"]


def saved(folder: Path, rank: int, seed: int, scaling: str = "mace", **more: object) -> Path:
    model = make_model()
    set_e0s(model, {"H": -10.0 - seed})
    inject_lora(model, rank=rank, alpha=2.0, scaling=scaling, **more)
    perturb(model, seed=seed)
    return save_adapter(model, folder)


def test_disabled_is_the_base() -> None:
    model = make_model()
    inject_lora(model, rank=2)
    perturb(model)
    on, base = forces(model), forces(make_model())
    with disabled(model):
        off = forces(model)
    assert np.array_equal(off, base)
    assert np.array_equal(forces(model), on)
    assert np.abs(on - base).max() > 1e-3


def test_scaled_is_the_scaled_weight_change() -> None:
    model = make_model()
    inject_lora(model, rank=2)
    perturb(model)
    before = {name: layer.delta().detach().clone() for name, layer in lora_layers(model)}
    scale_adapters(model, -0.5)
    for name, layer in lora_layers(model):
        assert torch.allclose(layer.delta(), -0.5 * before[name], atol=1e-14)
        assert before[name].abs().max() > 1e-3


def test_weighted_sum(tmp_path: Path) -> None:
    """Of adapters with different ranks and scalings, merged: W + sum of w (W_i - W)."""
    folders = {saved(tmp_path / "a", 2, 1): 0.7, saved(tmp_path / "b", 3, 2, "rank_stable"): -0.4}
    model, base = make_model(), dict(make_model().named_parameters())
    add_adapters(model, folders)
    h = get_e0s(make_model())["H"]  # of the base; -11 and -12 eV of the adapters
    assert get_e0s(model)["H"] == pytest.approx(h + 0.7 * (-11.0 - h) - 0.4 * (-12.0 - h))
    save_adapter(model, tmp_path / "sum")
    expected = {name: weight.detach().clone() for name, weight in base.items()}
    for folder, w in folders.items():
        one = make_model()
        load_adapter(one, folder)
        for name, value in merge_lora_weights(one).named_parameters():
            expected[name] += w * (value.detach() - base[name].detach())
    again = make_model()
    load_adapter(again, tmp_path / "sum")
    for found in (merge_lora_weights(model), merge_lora_weights(again)):
        for name, value in found.named_parameters():
            assert torch.allclose(value, expected[name], atol=1e-12), name
    assert any((expected[n] - base[n]).abs().max() > 1e-2 for n in base)


def test_what_cannot_be_added(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", 2, 1)
    b = saved(tmp_path / "b", 2, 1, targets={"exclude": ["readouts.*"]})
    model = make_model()
    with pytest.raises(UserError, match="adapts other layers"):
        add_adapters(model, {a: 1.0, b: 1.0})
    few = saved(tmp_path / "few", 2, 1, targets={"irreps": ["0e"]})
    for pair in ((few, a), (a, few)):
        with pytest.raises(UserError, match="other layers or irreps"):
            add_adapters(model, dict.fromkeys(pair, 1.0))
    other = saved(tmp_path / "sparse", 2, 1, kind="sparse")
    for pair in ((other, a), (a, other)):
        with pytest.raises(UserError, match="of another kind"):
            add_adapters(model, dict.fromkeys(pair, 1.0))
    assert not dict(lora_layers(model)) and np.array_equal(forces(model), forces(make_model()))
    assert not hasattr(model, "lora_injection")  # nor does it claim to hold adapters
    with pytest.raises(UserError, match="belongs to the base"):
        add_adapters(make_model(replace(BASE, seed=1)), {a: 1.0})
    with pytest.raises(UserError, match="at least one adapter"):
        add_adapters(make_model(), {})


def test_merging_while_disabled_is_refused() -> None:
    model = make_model()
    inject_lora(model, rank=2)
    with disabled(model), pytest.raises(ValueError, match="merge outside of"):
        merge_lora_weights(model)


@pytest.mark.parametrize("targets", [{}, {"skip_tp": True, "symmetric_contraction": True}])
def test_unmerge(tmp_path: Path, targets: dict) -> None:
    folder = saved(tmp_path / "a", 2, 1, targets=targets)
    base, model = make_model(), make_model()
    load_adapter(model, folder)
    with_adapter = forces(model)
    merged = merge_lora_weights(model)
    again = unmerge(merged, folder)
    assert np.abs(forces(again) - with_adapter).max() < 1e-12
    assert fingerprint(again) == fingerprint(base) != fingerprint(merged)
    with disabled(again):
        assert np.abs(forces(again) - forces(base)).max() < 1e-12
    assert np.abs(with_adapter - forces(base)).max() > 1e-3
    assert not dict(lora_layers(merged))  # a copy was unmerged


def test_what_cannot_be_unmerged(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", 2, 1), saved(tmp_path / "b", 2, 5)
    model = make_model()
    load_adapter(model, a)
    merged = merge_lora_weights(model)
    with pytest.raises(UserError, match="merged from another one, or in float32"):
        unmerge(merged, b)
    single = make_model().float()
    load_adapter(single, a)
    with pytest.raises(UserError, match="or in float32"):
        unmerge(merge_lora_weights(single), a)
