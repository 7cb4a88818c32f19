"""Cutting adapters: the best approximation per layer and irrep, exactly, and the spectrum."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_adapter, save_adapter
from lora.adapters.algebra import cut, truncate_lora
from lora.adapters.inject import lora_layers
from lora.adapters.layer import Adapter
from lora.adapters.lora import LoRAO3Linear
from lora.adapters.products import ContractionHost
from lora.adapters.saved import read_card
from lora.adapters.spectra import effective_rank, spectrum
from lora.errors import UserError
from lora.mace.door import o3
from lora.mace.elements import trim_elements
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.steps.truncate import truncate
from tests.support.models import CASES, IDS, Case, make_model, perturb, structures


def dense_parts(layer: Adapter) -> dict[str, torch.Tensor]:
    """The weight change as one full matrix an irrep, [inputs, outputs]: what we never build."""
    host, delta = layer.host, layer.delta().detach()
    if isinstance(host, ContractionHost):  # [n_elements, n_paths, channels], by output irrep
        pieces: dict[str, list[torch.Tensor]] = {}
        split = delta.split([part.n_paths for part in host.paths], dim=1)
        for part, piece in zip(host.paths, split, strict=True):
            pieces.setdefault(str(host.irreps_out[part.output].ir), []).append(piece)
        return {ir: torch.cat(x, dim=1).flatten(0, 1) for ir, x in pieces.items()}
    if not isinstance(layer, LoRAO3Linear):
        return {"0e": delta}
    rows, columns, parts = {}, {}, {}
    for ir in host.shared:
        rows[ir] = [i for i, (_, x) in enumerate(host.irreps_in) if x == ir]
        columns[ir] = [i for i, (_, x) in enumerate(host.irreps_out) if x == ir]
    start, block = 0, {}
    for x in host.blocks:
        size = x.rows * x.columns
        block[x.i_in, x.i_out] = delta[start : start + size].view(x.rows, x.columns)
        start += size
    for ir in host.shared:
        matrix = [torch.cat([block[i, j] for j in columns[ir]], dim=1) for i in rows[ir]]
        parts[str(ir)] = torch.cat(matrix)
    return parts


def trained(case: Case, scaling: str = "mace", rank: int = 4) -> torch.nn.Module:
    model = make_model(case)
    targets = {"skip_tp": True, "symmetric_contraction": True}
    inject_lora(model, rank=rank, alpha=2.0, scaling=scaling, targets=targets)
    perturb(model)
    return model


@pytest.mark.parametrize("scaling", ["mace", "rank_stable"])
@pytest.mark.parametrize("case", CASES[:7], ids=IDS[:7])
def test_cut_is_the_best_approximation(case: Case, scaling: str) -> None:
    for _, layer in lora_layers(trained(case, scaling)):
        whole, values = dense_parts(layer), spectrum(layer)
        after = dense_parts(cut(layer, 2))
        assert set(whole) == set(values) == set(after)
        for part, matrix in whole.items():
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            found = values[part]
            assert torch.allclose(found, s[: len(found)], atol=1e-12)
            assert s[len(found) :].abs().max().item() < 1e-12 if len(s) > len(found) else True
            best = u[:, :2] * s[:2] @ v[:2]
            assert torch.allclose(after[part], best, atol=1e-12)
            assert s[0] > 1e-3


def test_repeated_irreps() -> None:
    """Inputs and outputs in which one irrep stands twice are one matrix, and cut as one."""
    base = o3.Linear("4x0e + 3x1o + 2x0e", "5x0e + 2x1o + 3x0e").double()
    layer = LoRAO3Linear(base, rank=3, alpha=1.0).double()
    perturb(torch.nn.ModuleDict({"x": layer}))
    whole, after = dense_parts(layer), dense_parts(cut(layer, 1))
    assert whole["0e"].shape == (6, 8)
    for part, matrix in whole.items():
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.allclose(after[part], s[0] * torch.outer(u[:, 0], v[0]), atol=1e-12)


def test_what_is_cut_off_was_empty() -> None:
    """An adapter of true rank 2, written at rank 4, loses nothing at rank 2, in any layer."""
    model = trained(CASES[0])
    with torch.no_grad():
        for _, layer in lora_layers(model):
            small = cut(layer, 2)
            grown = cut(small, 4)  # the same change at rank 4, padded with zeros
            layer.lora_A.copy_(grown.lora_A)
            layer.lora_B.copy_(grown.lora_B)
    atoms = structures()
    before = predict(model, graphs(atoms, model))
    assert set(truncate_lora(model, energy=1.0).values()) <= {1, 2}
    after = predict(model, graphs(atoms, model))
    assert np.abs(before["forces"] - after["forces"]).max() < 1e-10
    base = make_model(CASES[0])
    assert np.abs(before["forces"] - predict(base, graphs(atoms, base))["forces"]).max() > 1e-3


def test_files_to_files(tmp_path: Path) -> None:
    torch.save(make_model(), tmp_path / "base.model")
    model = trim_elements(make_model(), [1, 6, 8])
    inject_lora(model, rank=4, alpha=2.0, targets={"exclude": ["readouts.*"]})
    perturb(model)
    save_adapter(model, tmp_path / "a")
    args = (Base(tmp_path / "base.model"), tmp_path / "a")
    result = truncate(*args, tmp_path / "b", rank=2)
    assert set(result["ranks"].values()) <= {1, 2} and result["cut_from_rank"] == 4
    card = read_card(tmp_path / "b/adapter")
    assert card["rank"] == 2 and card["elements"] == ["H", "C", "O"]
    full = make_model()
    load_adapter(full, tmp_path / "b/adapter")
    assert {x.rank for _, x in lora_layers(full)} == {2}
    assert not any("readouts" in name for name, _ in lora_layers(full))
    by_energy = truncate(*args, tmp_path / "c", energy=0.9)["ranks"]
    assert len(set(by_energy.values())) > 1
    full = make_model()
    load_adapter(full, tmp_path / "c/adapter")
    assert {name: x.rank for name, x in lora_layers(full)} == by_energy
    for bad, message in (
        ({"rank": 0}, "at least 1"),
        ({"energy": 2.0}, "energy: 2.0"),
        ({}, "rank or"),
    ):
        with pytest.raises(UserError, match=message):
            truncate(*args, tmp_path / "d", **bad)


def test_effective_rank() -> None:
    assert effective_rank(torch.tensor([1.0, 1.0, 1.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(torch.tensor([5.0, 0.0])) == pytest.approx(1.0)
