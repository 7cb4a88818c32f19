"""E0s: the fit, what it does where the data leave it open, the methods and the gate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from lora.adapters.saved import FORMAT
from lora.data.labels import Keys
from lora.data.structures import (
    ENERGY,
    FORCES,
    composition,
    read_structures,
    write_structures,
)
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed
from lora.mace.elements import get_e0s
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.earlier import CARD, TENSORS
from lora.steps.e0s import E0sSettings, e0s
from tests.support.models import CASES, make_model, structures

FLOAT32 = next(case for case in CASES if case.name == "float32")
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


@pytest.mark.parametrize("method", ["auto", "estimated"])
def test_the_shift_is_found(base: Base, tmp_path: Path, method: str) -> None:
    write_structures(tmp_path / "t.xyz", shifted(structures(stress=False)))
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json", E0sSettings(method))
    old = get_e0s(make_model())
    for symbol, shift in SHIFT.items():
        assert result["E0s"][symbol] == pytest.approx(old[symbol] + shift, abs=1e-8)
    assert result["rank"] == 4
    assert result["rmse_before_mev_per_atom"] > 500 > 1e-4 > result["rmse_after_mev_per_atom"]
    assert result["sources"] == dict.fromkeys("HCNO", "fit") and result["prior"] == {}
    assert result["warnings"] == []
    assert result["sentences"] == [
        f"E0s ({method}): fitted to 6 training energies, which determine all of them."
    ]
    assert read_json(tmp_path / "e0s.json") == result


def test_estimated_takes_the_smallest_shifts_and_says_so(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one_formula = [a for a in structures(stress=False) if len(a) == 7][:1]  # CH3CHO
    write_structures(tmp_path / "t.xyz", shifted(one_formula * 3))
    settings = E0sSettings("estimated")
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json", settings)
    assert result["rank"] == 1 and result["n_elements"] == 3
    counts = composition(one_formula, [1, 6, 8])[0]
    correction = np.array([result["correction"][s] for s in "HCO"])
    total = counts @ [SHIFT[s] for s in "HCO"]
    assert np.allclose(correction, total * counts / (counts @ counts))  # smallest that fits
    assert caplog.text.count("determine 1 of 3 E0s") == 1
    assert "set e0s.method: auto" in result["warnings"][0]


def free_atoms(energies: dict[str, float]) -> list[Atoms]:
    """Free atoms of some energies (eV)."""
    return [
        labelled(Atoms(symbol), energy, config_type="IsolatedAtom")
        for symbol, energy in energies.items()
    ]


def labelled(atoms: Atoms, energy: float | None, **info: object) -> Atoms:
    """The structure with an energy (eV), or none, and forces of zero."""
    atoms.info = ({} if energy is None else {ENERGY: energy}) | info
    atoms.arrays[FORCES] = np.zeros((len(atoms), 3))
    return atoms


def one_formula(n: int = 8, seed: int = 0) -> list[Atoms]:
    """Copies of CH3CHO with energies of SHIFT."""
    rng = np.random.default_rng(seed)
    out = [structures(stress=False)[0] for _ in range(n)]
    for atoms in out:
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
    return shifted(out, noise=0.01)


def test_auto_is_nearest_to_free_atoms_and_says_so(
    base: Base,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    """Free atoms of the training set, of a file of their own, with its own keys, and both."""
    old = get_e0s(make_model())
    right = {s: old[s] + SHIFT[s] for s in "HCO"}
    molecules = one_formula()
    write_structures(tmp_path / "with.xyz", free_atoms(right) + molecules)
    write_structures(tmp_path / "some.xyz", free_atoms({"H": right["H"]}) + molecules)
    write_structures(tmp_path / "without.xyz", molecules)
    own = free_atoms({s: right[s] for s in "CO"})
    for atoms in own:
        atoms.info["E"], atoms.arrays["F"] = atoms.info.pop(ENERGY), atoms.arrays.pop(FORCES)
    write_structures(tmp_path / "atoms.xyz", own)
    keys = Keys(energy="E", forces="F")
    settings = E0sSettings(isolated_file=str(tmp_path / "atoms.xyz"), keys=keys)
    for file, one in (("with.xyz", E0sSettings()), ("some.xyz", settings)):
        caplog.clear()
        result = e0s(tmp_path / file, base, tmp_path / "e0s.json", one)
        assert result["E0s"] == pytest.approx(right, abs=0.02)
        assert result["prior"] == pytest.approx(right, abs=1e-9)
        assert result["sources"] == dict.fromkeys("HCO", "free atom")
        assert (result["rank"], result["n_elements"], result["n_structures"]) == (1, 3, 8)
        assert caplog.text.count("determine 1 of 3 E0s") == 1
        assert capfd.readouterr().out.count("determine 1 of 3 E0s") == 1  # the log is another file
        assert "nearest to free atoms (H C O)" in result["sentences"][0]
        assert "or free atoms of" not in result["sentences"][0]  # there are all
    result = e0s(tmp_path / "without.xyz", base, tmp_path / "e0s.json", settings)
    assert list(result["sources"].values()) == ["foundation model", "free atom", "free atom"]
    assert "or free atoms of H (" in result["sentences"][0]
    write_structures(tmp_path / "twice.xyz", free_atoms({"H": right["H"] + 1}) + own)
    both = replace(settings, isolated_file=str(tmp_path / "twice.xyz"), keys=Keys())
    with pytest.raises(UserError, match=r"twice\.xyz frame 0: .*H has .*some\.xyz frame 0"):
        write_structures(tmp_path / "twice.xyz", free_atoms({"H": right["H"] + 1}))
        e0s(tmp_path / "some.xyz", base, tmp_path / "e0s.json", both)
    write_structures(tmp_path / "twice.xyz", molecules)
    with pytest.raises(UserError, match=r"twice\.xyz frame 0: has 7 atoms, not a free atom"):
        e0s(tmp_path / "some.xyz", base, tmp_path / "e0s.json", both)


def test_frames_without_energy_or_weight_count_nowhere(base: Base, tmp_path: Path) -> None:
    """Neither in the fit nor in the gate; and a weight of 2 is the frame twice."""
    molecules, extra = one_formula(), shifted(structures(stress=False)[1:2], noise=0.5)
    write_structures(tmp_path / "t.xyz", molecules + extra)
    expected = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")
    wrong = [labelled(a, 0.0, config_energy_weight=0.0) for a in one_formula(2, seed=1)]
    missing = [labelled(a, None) for a in one_formula(2, seed=2)]
    write_structures(tmp_path / "t.xyz", [*wrong, *molecules, *missing, *extra])
    found = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")
    for key in ("E0s", "n_structures", "rank", "rmse_after_mev_per_atom"):
        assert found[key] == pytest.approx(expected[key], abs=1e-9), key
    write_structures(tmp_path / "t.xyz", [*molecules, molecules[0], *extra])
    twice = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")
    molecules[0].info["config_weight"] = 2.0
    write_structures(tmp_path / "t.xyz", molecules + extra)
    weighted = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")
    for key in ("E0s", "rmse_after_mev_per_atom"):
        assert weighted[key] == pytest.approx(twice[key], rel=1e-6), key
        assert weighted[key] != pytest.approx(expected[key], rel=1e-6), key


def test_no_energies_at_all(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_structures(tmp_path / "t.xyz", [labelled(a, None) for a in one_formula(2)])
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json")
    old = get_e0s(make_model())
    assert result["E0s"] == {s: old[s] for s in "HCO"} and result["n_structures"] == 0
    assert "no structure of the training set has an energy" in caplog.text


def test_all_is_computed_in_float64(tmp_path: Path) -> None:
    """On a base that is stored in float32, and energies of half a million eV an atom."""
    torch.save(make_model(FLOAT32), tmp_path / "base.model")
    model = make_model(FLOAT32).double()
    atoms = structures(stress=False)
    for a, energy in zip(atoms, predict(model, graphs(atoms, model))["energy"], strict=True):
        a.info[ENERGY] = float(energy) - 5e5 * len(a)
    write_structures(tmp_path / "t.xyz", atoms)
    result = e0s(tmp_path / "t.xyz", Base(tmp_path / "base.model"), tmp_path / "e.json")
    assert result["correction"] == pytest.approx(dict.fromkeys("HCNO", -5e5), abs=1e-4)
    assert result["rmse_after_mev_per_atom"] < 1e-3  # float32 rounds by 30


def test_a_frame_far_off_is_named(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By its file of origin, on both sides of the gate, and not as wrong E0s."""
    molecules = one_formula(12)
    molecules[7].info[ENERGY] += 50
    write_structures(tmp_path / "dft.xyz", molecules)
    write_structures(tmp_path / "train.xyz", read_structures(tmp_path / "dft.xyz")[::-1])
    args = (tmp_path / "train.xyz", base, tmp_path / "e.json")
    named = r"single frames and not of the E0s.*dft\.xyz frame 7 \(\+71\d\d meV/atom\); correct"
    with pytest.raises(UserError, match=named):
        e0s(*args)
    assert not (tmp_path / "e.json").exists()
    result = e0s(*args, E0sSettings(max_error=5000))
    assert caplog.text.count("dft.xyz frame 7 (+71") == 1
    assert "1 of 12 training energies is far off" in result["warnings"][1]
    assert [*result["far_off"]] == [f"{tmp_path}/dft.xyz frame 7"]
    assert result["far_off"][f"{tmp_path}/dft.xyz frame 7"] == pytest.approx(5e4 / 7, rel=0.01)
    caplog.clear()
    result = e0s(*args, E0sSettings(stop=False))
    assert caplog.text.count("dft.xyz frame 7 (+71") == 1
    assert "over the gate of 500" in result["warnings"][1]


def test_other_methods(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    atoms = shifted(structures(stress=False))
    free = free_atoms({"H": -10.0, "C": -11.0, "N": -12.0, "O": -13.0})
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
    with pytest.raises(UserError, match="IsolatedAtom.*e0s.isolated_file; missing: N, O"):
        run("isolated")
    write_structures(tmp_path / "atoms.xyz", free[2:])
    more = E0sSettings("isolated", str(tmp_path / "atoms.xyz"), stop=False)
    found = e0s(tmp_path / "t.xyz", base, tmp_path / "e.json", more)["E0s"]
    assert found == {"H": -10.0, "C": -11.0, "N": -12.0, "O": -13.0}


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


def test_those_of_an_adapter(base: Base, tmp_path: Path) -> None:
    """They are taken as they are; an element that it does not have is said with the values."""
    write_structures(tmp_path / "t.xyz", shifted(structures(stress=False)))
    fitted = e0s(tmp_path / "t.xyz", base, tmp_path / "fit.json")["E0s"]
    folder = tmp_path / "p/adapter"

    def trained_with(energies: dict[str, float]) -> E0sSettings:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TENSORS).write_bytes(b"")
        card = {"format": FORMAT, "E0s": energies}
        write_sealed(folder / CARD, card, [folder / TENSORS])
        return E0sSettings("adapter", adapter=folder)

    moved = fitted | {"C": fitted["C"] + 0.01}
    settings = trained_with(moved)
    result = e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json", settings)
    assert result["E0s"] == moved and result["method"] == "adapter" and not result["warnings"]
    assert result["sources"] == dict.fromkeys("HCNO", "given")
    assert result["sentences"] == ["E0s (adapter): those of the adapter that trainings go on from."]
    with pytest.raises(UserError, match=r"no E0 of C, which .* values: \{.*, C: \.\.\.\}"):
        settings = trained_with({k: v for k, v in fitted.items() if k != "C"})
        e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json", settings)
    with pytest.raises(UserError, match="--adapter is not the folder of an adapter"):
        e0s(tmp_path / "t.xyz", base, tmp_path / "e0s.json", E0sSettings("adapter"))
