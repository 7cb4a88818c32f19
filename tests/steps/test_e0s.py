"""E0s: the fit, what it does where the data leave it open, the methods and the gate."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from lora.data.e0s import fit_e0s
from lora.data.structures import (
    ENERGY,
    FORCES,
    composition,
    read_structures,
    write_structures,
)
from lora.errors import UserError
from lora.files.sealed import read_json
from lora.mace.elements import get_e0s
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.steps.e0s import E0sSettings, e0s
from tests.support.models import make_model, structures

SHIFT = {"H": 1.0, "C": -2.0, "N": 0.5, "O": 3.0}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    torch.save(make_model(), tmp_path / "base.model")
    return Base(tmp_path / "base.model")


def shifted(atoms: list[Atoms], noise: float = 0.0) -> list[Atoms]:
    """Structures whose energies are the model's, moved by SHIFT an atom."""
    model, rng = make_model(), np.random.default_rng(0)
    for a, energy in zip(atoms, predict(model, graphs(atoms, model))["energy"], strict=True):
        a.info[ENERGY] = float(energy) + sum(SHIFT[s] for s in a.symbols) + noise * rng.normal()
    return atoms


def test_estimated_finds_the_shift(base: Base, tmp_path: Path) -> None:
    write_structures(tmp_path / "t.xyz", shifted(structures(stress=False)))
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json")
    old = get_e0s(make_model())
    for symbol, shift in SHIFT.items():
        assert result["E0s"][symbol] == pytest.approx(old[symbol] + shift, abs=1e-8)
    assert result["rank"] == 4
    assert result["rmse_before_mev_per_atom"] > 500 > 1e-4 > result["rmse_after_mev_per_atom"]
    assert read_json(tmp_path / "e0s.json") == result


def test_rank_deficient_is_nearest_and_said(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one_formula = [a for a in structures(stress=False) if len(a) == 7][:1]  # CH3CHO
    write_structures(tmp_path / "t.xyz", shifted(one_formula * 3))
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json")
    assert result["rank"] == 1 and result["n_elements"] == 3
    counts = composition(one_formula, [1, 6, 8])[0]
    correction = np.array([result["correction"][s] for s in "HCO"])
    total = counts @ [SHIFT[s] for s in "HCO"]
    assert np.allclose(correction, total * counts / (counts @ counts))  # smallest that fits
    assert "determine 1 of 3 E0s" in caplog.text


def test_fit_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    counts, energies = rng.integers(0, 5, (30, 3)).astype(float), rng.normal(size=30)
    shifts, rank = fit_e0s(counts, energies)
    assert rank == 3
    assert np.abs(counts.T @ (counts @ shifts - energies)).max() < 1e-10  # normal equations


def test_other_methods(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    atoms = shifted(structures(stress=False))
    free = [Atoms(symbol, info={"config_type": "IsolatedAtom"}) for symbol in "HCNO"]
    for i, a in enumerate(free):
        a.info[ENERGY] = -10.0 - i
        a.arrays[FORCES] = np.zeros((1, 3))
    write_structures(tmp_path / "t.xyz", free + atoms)

    def run(method: object) -> dict:
        settings = E0sSettings(method, stop=False)
        return e0s(tmp_path / "t.xyz", base, tmp_path / "e.json", settings)["E0s"]

    assert run("isolated") == {"H": -10.0, "C": -11.0, "N": -12.0, "O": -13.0}
    assert run("foundation") == pytest.approx(get_e0s(make_model()))
    explicit = {"H": 1.0, "C": 2.0, "N": 3.0, "O": 4.0}
    assert run(explicit) == explicit
    average = run("average")
    counts = composition(atoms, [1, 6, 7, 8])
    energies = np.array([a.info[ENERGY] for a in atoms])
    residual = energies - counts @ [average[s] for s in ("H", "C", "N", "O")]
    assert np.abs(counts.T @ residual).max() < 1e-8
    assert "average fits total energies" in caplog.text
    with pytest.raises(UserError, match="explicit values; missing: C, N, O"):
        run({"H": 1.0})
    with pytest.raises(UserError, match="'magic' is not one of"):
        run("magic")
    write_structures(tmp_path / "t.xyz", free[:2] + atoms)
    with pytest.raises(UserError, match="IsolatedAtom.*missing: N, O"):
        run("isolated")


def test_gate(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_structures(tmp_path / "t.xyz", shifted(structures(stress=False)))
    args = (tmp_path / "t.xyz", base, tmp_path / "e.json")
    with pytest.raises(UserError, match="over the gate of 500.*e0s.max_error or set e0s.stop"):
        e0s(*args, E0sSettings("foundation"))
    assert not (tmp_path / "e.json").exists()
    e0s(*args, E0sSettings("foundation", stop=False))
    assert "over the gate of 500" in caplog.text
    e0s(*args, E0sSettings("foundation", max_error=1e6))


def test_unknown_element_is_named(base: Base, tmp_path: Path) -> None:
    salt = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.4]], info={ENERGY: -1.0})
    salt.arrays[FORCES] = np.zeros((2, 3))
    write_structures(tmp_path / "t.xyz", [*shifted(structures(stress=False)), salt])
    with pytest.raises(UserError, match=r"t\.xyz frame 6: .*does not know Na; it knows H C N O"):
        e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")


def test_the_original_file_and_frame_are_named(base: Base, tmp_path: Path) -> None:
    """Trouble that a later step finds in train.xyz is trouble of the user's file."""
    salt = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.4]], info={ENERGY: -1.0})
    salt.arrays[FORCES] = np.zeros((2, 3))
    write_structures(tmp_path / "dft.xyz", [*shifted(structures(stress=False)), salt])
    frames = read_structures(tmp_path / "dft.xyz")
    write_structures(tmp_path / "train.xyz", frames[::-1])
    with pytest.raises(UserError, match=r"dft\.xyz frame 6: .*does not know Na"):
        e0s(tmp_path / "train.xyz", base, tmp_path / "e.json")
