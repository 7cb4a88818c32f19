"""The committee calculator: mean and spread of members computed one by one, and refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces

from lora import inject_lora, load_adapter, load_foundation, save_adapter
from lora.calculators.committee import Committee
from lora.errors import UserError
from lora.mace.elements import get_e0s, set_e0s
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from tests.support.models import BASE, make_model, perturb, structures


def saved(folder: Path, rank: int, seed: int, h: float = -1.0, **own: object) -> Path:
    model = make_model()
    set_e0s(model, {"H": h})
    inject_lora(model, rank=rank, alpha=2.0, **own)
    perturb(model, seed=seed)
    return save_adapter(model, folder)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.save(make_model(), tmp_path / "base.model")
    return tmp_path / "base.model"


def test_e0s_are_compared_in_any_order(tmp_path: Path, base: Path) -> None:
    """An adapter of fewer elements does not inherit those of the one before."""
    folders = [saved(tmp_path / "hydrogen", 1, seed=1), tmp_path / "more"]
    model = make_model()
    set_e0s(model, {"H": -1.0, "O": get_e0s(model)["O"] - 1.0})
    inject_lora(model, rank=1)
    perturb(model, seed=2)
    save_adapter(model, folders[1])
    for order in (folders, folders[::-1]):
        with pytest.raises(UserError, match="has other E0s than"):
            Committee(base, order)


def test_mean_and_spread_of_members(tmp_path: Path, base: Path) -> None:
    folders = [saved(tmp_path / f"{r}", r, seed=r) for r in (1, 2, 4)]
    folders.append(saved(tmp_path / "stable", 3, seed=9, scaling="rank_stable"))
    calculator = Committee(base, folders)
    for atoms in structures():
        energies, forces, stresses = [], [], []
        for folder in folders:
            model = load_foundation(base)
            load_adapter(model, folder)
            out = predict(model, graphs([atoms], model), stress=True)
            energies.append(out["energy"][0])
            forces.append(out["forces"])
            stresses.append(out["stress"][0])
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), abs=1e-9)
        assert np.abs(atoms.get_forces() - np.mean(forces, axis=0)).max() < 1e-9
        results = calculator.results
        assert results["energy_spread"] == pytest.approx(np.std(energies, ddof=1), abs=1e-9)
        spread = np.linalg.norm(np.std(forces, axis=0, ddof=1), axis=1)
        assert np.abs(results["forces_spread"] - spread).max() < 1e-9
        assert results["forces_members"].shape == (4, len(atoms), 3)
        if atoms.pbc.all():
            full = atoms.get_stress(voigt=False)
            assert np.abs(full - np.mean(stresses, axis=0)).max() < 1e-9
            assert np.abs(full).max() > 1e-6
        else:
            assert "stress" not in results
    assert np.std(energies) > 0 or len(atoms) == 2  # the last is the pair beyond the cutoff
    calculator.calculate(structures()[0])
    assert (calculator.results["forces_spread"] > 1e-3).all()


def test_forces_are_the_slope_of_the_energy(tmp_path: Path, base: Path) -> None:
    atoms = structures()[0]
    atoms.calc = Committee(base, [saved(tmp_path / f"{r}", r, seed=r) for r in (1, 2)])
    forces = atoms.get_forces()
    slope = calculate_numerical_forces(atoms, eps=1e-4)
    assert np.abs(forces - slope).max() < 1e-6
    assert np.abs(forces).max() > 1e-2


def test_refusals(tmp_path: Path, base: Path) -> None:
    a = saved(tmp_path / "a", 2, 1)
    with pytest.raises(UserError, match="at least two adapters"):
        Committee(base, [a])
    with pytest.raises(UserError, match="has other E0s"):
        Committee(base, [a, saved(tmp_path / "b", 2, 2, h=-2.0)])
    with pytest.raises(UserError, match="adapt different layers"):
        Committee(base, [a, saved(tmp_path / "c", 2, 2, targets={"exclude": ["readouts.*"]})])
    with pytest.raises(UserError, match="adapt different irreps"):
        Committee(base, [a, saved(tmp_path / "d", 2, 2, targets={"irreps": ["0e"]})])
    torch.save(make_model(replace(BASE, seed=1)), tmp_path / "other.model")
    with pytest.raises(UserError, match="belongs to the base"):
        Committee(tmp_path / "other.model", [a, a])
    with pytest.raises(UserError, match="does not know"):
        Committee(base, [a, a]).calculate(Atoms("Cl"))
