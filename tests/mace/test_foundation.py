"""Fingerprints, trimming to the elements of the data and back."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from lora import load_foundation
from lora.errors import UserError
from lora.mace.elements import elements, get_e0s, restore_elements, set_e0s, trim_elements
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from tests.support.models import BASE, ONE_HEAD, ONE_HEAD_IDS, Case, make_model, structures


def outputs(model: torch.nn.Module, atoms: list[Atoms]) -> dict[str, np.ndarray]:
    return predict(model, graphs(atoms, model))


@pytest.mark.parametrize("case", ONE_HEAD, ids=ONE_HEAD_IDS)
def test_trimmed_model_computes_the_same_and_restores(case: Case) -> None:
    full = make_model(case)
    atoms = [a for a in structures() if set(a.numbers) <= {1, 6, 8}]
    trimmed = trim_elements(full, [8, 1, 6])
    assert elements(trimmed) == [1, 6, 8]
    assert sum(p.numel() for p in trimmed.parameters()) < sum(p.numel() for p in full.parameters())
    bound = 1e-11 if case.dtype == torch.float64 else 1e-4
    a, b = outputs(full, atoms), outputs(trimmed, atoms)
    assert np.abs(a["energy"] - b["energy"]).max() < bound
    assert np.abs(a["forces"] - b["forces"]).max() < bound

    with torch.no_grad():  # now change every weight, as full fine-tuning does
        generator = torch.Generator().manual_seed(5)
        for parameter in trimmed.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(1 + 0.1 * noise)
    set_e0s(trimmed, {"H": -1.0, "O": -2.0})
    untouched = copy.deepcopy(full.state_dict())
    restored = restore_elements(trimmed, full)
    c, d = outputs(trimmed, atoms), outputs(restored, atoms)
    assert np.abs(c["energy"] - a["energy"]).max() > 1e-2
    assert np.abs(c["energy"] - d["energy"]).max() < bound
    assert np.abs(c["forces"] - d["forces"]).max() < bound
    shapes = {k: v.shape for k, v in restored.state_dict().items()}
    assert shapes == {k: v.shape for k, v in untouched.items()}
    assert all(torch.equal(v, untouched[k]) for k, v in full.state_dict().items())
    e0s = get_e0s(restored)
    assert (e0s["H"], e0s["O"], e0s["N"]) == (-1.0, -2.0, get_e0s(full)["N"])


def test_fingerprint_is_of_the_weights() -> None:
    model = make_model()
    first = fingerprint(model)
    assert fingerprint(make_model()) == first
    single = copy.deepcopy(model).float()
    assert fingerprint(single) == fingerprint(copy.deepcopy(single).double()) == first
    set_e0s(model, {"H": -7.0})
    assert fingerprint(model) == first  # E0s do not count
    with torch.no_grad():
        next(model.parameters())[0] += 1e-3
    assert fingerprint(model) != first


def test_load_file_keeps_predictions(tmp_path: Path) -> None:
    model = make_model()
    expected = outputs(model, structures())
    torch.save(model, tmp_path / "base.model")
    loaded = load_foundation(tmp_path / "base.model")
    assert fingerprint(loaded) == fingerprint(model)
    assert np.array_equal(outputs(loaded, structures())["energy"], expected["energy"])
    as_float = load_foundation(tmp_path / "base.model", dtype=torch.float32)
    assert next(as_float.parameters()).dtype == torch.float32


def test_unknown_element() -> None:
    model = make_model(BASE)
    with pytest.raises(UserError, match="element Cl: the foundation model does not know it"):
        trim_elements(model, [1, 17])
    with pytest.raises(UserError, match="does not know the element Cl"):
        set_e0s(model, {"Cl": 1.0})
