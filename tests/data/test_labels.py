"""Labels: whatever a file calls them and lacks of them, and nothing that no key asks for."""

import json
import logging
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from lora.data.free_atoms import free_atoms
from lora.data.grouping import SplitSettings
from lora.data.labels import (
    CHARGE,
    ENERGY,
    FORCES,
    SPIN,
    STRESS,
    VIRIALS,
    Keys,
    counts,
    label,
    reference,
)
from lora.data.leakage import leakage
from lora.data.near import nearest
from lora.data.origin import origin_of
from lora.data.parity import errors, parity
from lora.data.structures import is_isolated_atom, read_structures, write_structures
from lora.data.unused import unused_labels
from lora.errors import UserError
from lora.steps.split import split
from tests.support.labels import mixed, with_holes


def write(path: Path, *frames: Atoms) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def test_labels_that_are_missing_are_absent_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", *with_holes(mixed(12)))
    for i, atoms in enumerate(read_structures(path)):
        assert (ENERGY in atoms.info) == (i % 3 != 1)
        assert (FORCES in atoms.arrays) == (i % 4 != 2)
        assert (STRESS in atoms.info) == (VIRIALS in atoms.info) == (i % 2 == 0 and i % 5 != 4)
        write_structures(tmp_path / "y.xyz", [atoms])
        (back,) = read_structures(tmp_path / "y.xyz") if ENERGY in atoms.info else [atoms]
        assert back.info.keys() == atoms.info.keys() and back.arrays.keys() == atoms.arrays.keys()


def test_a_file_without_any_label_is_refused_with_its_keys(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.info = {"dft_energy": -1.0}
    path = write(tmp_path / "x.xyz", atoms, atoms)
    message = "x.xyz: no frame has REF_energy, REF_forces.*keys of frame 0 are dft_energy; set data"
    with pytest.raises(UserError, match=message):
        read_structures(path)
    assert len(read_structures(path, Keys(energy="dft_energy"))) == 2


@pytest.mark.parametrize("form", ["voigt", "nine", "3x3"])
def test_virials_charge_and_spin_by_their_keys(tmp_path: Path, form: str) -> None:
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    value = {"voigt": np.array([1.0, 2, 3, 4, 5, 6]), "nine": full.reshape(9), "3x3": full}[form]
    atoms = bulk("C")
    atoms.info = {"w": value, "q": -1, "mult": 2, "energy_dft": -3.0}
    keys = Keys(energy="energy_dft", virials="w", total_charge="q", total_spin="mult")
    (found,) = read_structures(write(tmp_path / "x.xyz", atoms), keys)
    assert np.array_equal(found.info[VIRIALS].reshape(3, 3), full) and found.info[ENERGY] == -3.0
    assert (found.info[CHARGE], found.info[SPIN]) == (-1.0, 2.0)
    assert np.allclose(label(found, "stress"), -full.reshape(9) / found.cell.volume)
    assert not {"w", "q", "mult", "energy_dft"} & found.info.keys()


def test_two_labels_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="data.stress_key and data.virials_key are both sigma"):
        Keys(stress="sigma", virials="sigma")


def test_nothing_but_the_named_keys_is_used(tmp_path: Path) -> None:
    """Not our own names, not ASE's: a key that the config does not name is no label."""
    atoms = bulk("C")
    atoms.info = {"e": -1.0, ENERGY: -9.0, STRESS: np.ones(9), VIRIALS: np.ones(9), CHARGE: 3}
    atoms.arrays[FORCES] = np.ones((2, 3))
    atoms.calc = SinglePointCalculator(
        atoms, energy=-5.0, stress=np.ones(6), forces=np.ones((2, 3))
    )
    keys = Keys("e", "f", "s", "v", "q", "m")
    (found,) = read_structures(write(tmp_path / "x.xyz", atoms), keys)
    assert found.info[ENERGY] == -1.0 and set(found.info) == {
        *(ENERGY, "lora_source_file", "lora_source_frame")
    }
    assert FORCES not in found.arrays and found.calc is None


def test_stress_needs_periodicity_and_a_volume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A molecule in a box and a sheet without a third vector have none, which is said."""
    frames = [mixed(1)[0] for _ in range(4)]
    frames[1].pbc = False
    frames[2].pbc = (True, True, False)
    frames[3].pbc = (True, True, False)
    frames[3].cell[2] = 0.0
    frames[3].positions[:, 2] *= 0.1
    said: list[str] = []
    found = read_structures(write(tmp_path / "x.xyz", *frames), said=said)
    assert [STRESS in atoms.info for atoms in found] == [True, False, True, False]
    assert [VIRIALS in atoms.info for atoms in found] == [True] * 4
    assert [label(atoms, "stress") is not None for atoms in found] == [True, False, True, False]
    (line,) = said
    assert "the REF_stress of 2 structures is left out" in line and line in caplog.text


WEIGHTS = {
    "negative": ({"config_weight": -1.0}, "frame 1: config_weight is -1; give a weight of 0 or"),
    "nan": ({"config_energy_weight": np.nan}, "config_energy_weight holds a number that is not f"),
    "text": ({"config_forces_weight": "much"}, "config_forces_weight is 'much', not a number"),
    "two": ({"config_stress_weight": np.ones(2)}, "config_stress_weight holds 2 numbers, not one"),
    "inf": ({"config_virials_weight": np.inf}, "config_virials_weight holds a number that is not"),
}


@pytest.mark.parametrize(("info", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_checked(tmp_path: Path, info: dict, message: str) -> None:
    frames = mixed(2)
    frames[1].info |= info
    with pytest.raises(UserError, match=message):
        read_structures(write(tmp_path / "x.xyz", *frames))


def test_errors_are_of_labels_that_count() -> None:
    """Missing and of weight zero alike; the others count once, whatever their weight."""
    structures = with_holes(mixed(12))
    structures[0].info |= {"config_energy_weight": 0.0, "config_forces_weight": 7.0}
    structures[3].info |= {"config_weight": 0.0}
    truth = reference(structures)
    ends = np.cumsum(truth["n_atoms"])[:-1]
    rng = np.random.default_rng(0)
    predicted = {
        "energy": rng.normal(size=12),
        "forces": rng.normal(size=truth["forces"].shape),
        "stress": rng.normal(size=(12, 3, 3)),
    }
    assert [counts(a, "energy") for a in structures] == (~np.isnan(truth["energy"])).tolist()
    table = parity(structures, predicted, "test")
    found = errors(table)
    kept = [i for i in range(12) if i % 3 != 1 and i not in (0, 3)]
    wrong = (predicted["energy"] - truth["energy"])[kept] / truth["n_atoms"][kept]
    assert found["rmse_e_mev_per_atom"] == pytest.approx(1e3 * np.sqrt(np.mean(wrong**2)))
    parts = np.split(predicted["forces"] - truth["forces"], ends)
    wrong = np.concatenate([parts[i] for i in range(12) if i % 4 != 2 and i != 3])
    assert found["rmse_f_mev_per_a"] == pytest.approx(1e3 * np.sqrt(np.mean(wrong**2)))
    kept = [i for i in range(12) if i % 2 == 0 and i % 5 != 4]
    wrong = (predicted["stress"].reshape(12, 9) - truth["stress"])[kept]
    assert found["rmse_stress_mev_per_a3"] == pytest.approx(1e3 * np.sqrt(np.mean(wrong**2)))
    forces = table[table["quantity"] == "force"]
    for atoms, (_, part) in zip(structures, forces.groupby("structure"), strict=True):
        assert set(part["composition"]) == {atoms.get_chemical_formula()}
        assert list(part["element"][::3]) == atoms.get_chemical_symbols()
        assert list(part["atom"]) == [i for i in range(len(atoms)) for _ in range(3)]
    rows = table.groupby("quantity")["reference"]
    assert rows.size()["energy"] == 12 and rows.count()["energy"] == len(structures) - 6
    for atoms in structures:
        atoms.arrays.pop(FORCES, None)
    assert "rmse_f_mev_per_a" not in errors(parity(structures, predicted, "test"))


def test_a_head_in_the_file_is_dropped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = mixed(4)
    frames[0].info |= {"head": "pt_head", "lora_head": "pt_head"}
    frames[2].info["head"] = "other"
    found = read_structures(write(tmp_path / "x.xyz", *frames))
    assert not any({"head", "lora_head"} & atoms.info.keys() for atoms in found)
    assert "x.xyz: the key head of 2 structures is left out" in caplog.text


# --- free atoms


def lone(symbol: str = "H", energy: float | None = -13.6, **more: object) -> Atoms:
    atoms = Atoms(symbol, cell=np.eye(3) * float(more.pop("cell", 0)), pbc=more.pop("pbc", False))
    atoms.info = {ENERGY: energy, **more} if energy is not None else more
    return atoms


NAMES = ["isolated_atom", "IsolatedAtom", "Isolated-Atom", "isolated atom", "ISOLATED_ATOM_H"]
NAMES += ["free_atom", "FreeAtom", "single_atom"]


@pytest.mark.parametrize("name", NAMES)
def test_free_atoms_by_their_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.xyz", lone(config_type=name, cell=5, pbc=True), *mixed(2))
    assert [is_isolated_atom(atoms) for atoms in read_structures(path)] == [True, False, False]


def test_free_atoms_by_what_they_are(tmp_path: Path) -> None:
    """One atom without neighbours; not an ion, a crystal of one atom, or a molecule."""
    tilted = lone(pbc=(True, False, False))
    tilted.cell = [[9, 0, 0], [0, 30, 0], [0, 0, 30]]
    frames = {
        "plain": (lone(), True),
        "in a box": (lone(cell=12, pbc=True), True),
        "in a small cell": (lone(cell=5, pbc=True), False),
        "chain": (tilted, False),
        "ion": (lone("Na", total_charge=1), False),
        "neutral": (lone("Na", total_charge=0), True),
        "dimer": (Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={ENERGY: -31.0}), False),
    }
    found = read_structures(write(tmp_path / "x.xyz", *(atoms for atoms, _ in frames.values())))
    assert [is_isolated_atom(atoms) for atoms in found] == [free for _, free in frames.values()]


def test_free_atoms_need_no_forces_and_one_energy(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", lone(), lone("O", -41.0), lone(), *mixed(2), lone("C", None))
    assert len(free_atoms(read_structures(path), path)) == 4
    path = write(tmp_path / "y.xyz", *mixed(2), lone(), lone("O", -41.0), lone(energy=-13.5))
    message = (
        f"{path} frame 4: the free atom H has -13.500000 eV, and -13.600000 eV in {path} frame 2"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        free_atoms(read_structures(path), path)


# --- frames, distances, lattices


def test_the_frames_of_a_file_are_those_used_and_those_left_out(tmp_path: Path) -> None:
    """However a file was joined: training, validation, test and free atoms are all of it."""
    rng = np.random.default_rng(0)
    for case in range(6):
        frames = [*mixed(int(rng.integers(5, 20)), seed=case), lone(), lone("O", -41.0)]
        order = rng.permutation(len(frames))
        text = ""
        for i in order:
            write(tmp_path / "one.xyz", frames[i])
            text += (tmp_path / "one.xyz").read_text() + "\n" * int(rng.integers(0, 3))
        path = tmp_path / f"{case}.xyz"
        path.write_text(text)
        done = split(path, SplitSettings(), tmp_path / f"out{case}")
        held = [
            origin_of(atoms).frame
            for name in ("train", "valid", "test")
            for atoms in read_structures(tmp_path / f"out{case}/{name}.xyz")
        ]
        assert sum(done["counts"].values()) == len(frames) == len(held)
        again = ase.io.read(tmp_path / f"out{case}/train.xyz", ":")
        kept = sorted(int(a.info["lora_source_frame"]) for a in again)
        assert len(kept) == done["counts"]["train"] + done["counts"]["isolated_atoms"]


def test_split_says_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = write(tmp_path / "dft.xyz", *with_holes(mixed(20)))
    hot = [molecule("CH3CHO") for _ in range(3)]
    for atoms in hot:
        atoms.info = {ENERGY: -50.0}
    extra = write(tmp_path / "hot.xyz", *hot, lone())
    settings = SplitSettings(test_files={"hot": str(extra)})
    done = split(data, settings, tmp_path / "out")
    assert json.loads((tmp_path / "out/split.json").read_text())["labels"] == done["labels"]
    assert done["labels"]["hot"] == dict.fromkeys(done["labels"]["hot"], 0) | {
        "structures": 3,
        "energy": 3,
    }
    total = {x: sum(done["labels"][s][x] for s in ("train", "valid", "test")) for x in ("energy",)}
    assert total == {"energy": 13}
    assert "hot: 3 structures, labels: energy all, forces 0 (3 without)" in caplog.text
    (line,) = done["warnings"]
    assert line == f"{extra}: 1 free atoms are left out; E0s take those of data.file alone"
    settings = SplitSettings(keys=Keys(energy="enrgy"))
    assert split(data, settings, tmp_path / "o")["warnings"] == [
        "no training structure has enrgy (data.energy_key)"
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_atoms_on_each_other_across_a_boundary(tmp_path: Path, n: int) -> None:
    cell = bulk("C", "diamond", a=3.6, cubic=True) * (n, n, n + 2)
    assert nearest(cell, 0.2)[0] == np.inf
    cell.append(cell[0])
    cell.positions[-1] += cell.cell[2] - [0, 0, 0.05]
    cell.info = {ENERGY: -1.0}
    path = write(tmp_path / "x.xyz", cell)
    last = len(cell) - 1
    message = f"x.xyz frame 0: atoms 0 and {last} are 0.05 Å apart across a periodic boundary"
    with pytest.raises(UserError, match=message):
        read_structures(path)
    cell.pbc = (True, True, False)
    assert len(read_structures(write(tmp_path / "y.xyz", cell))) == 1


def test_near_atoms_of_large_molecules_are_found(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3)
    atoms = Atoms(f"C{len(grid) + 1}", [*grid, grid[400] + [0, 0.1, 0]], info={ENERGY: -1.0})
    path = write(tmp_path / "x.xyz", atoms)
    with pytest.raises(UserError, match="atoms 400 and 729 are 0.1 Å apart; give positions in Å"):
        read_structures(path)


def test_strained_cells_of_one_atom_are_no_duplicates() -> None:
    rng, strained = np.random.default_rng(0), []
    for _ in range(12):
        atoms = bulk("Cu", "fcc")
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))))
        strained.append(atoms)
    sets = {"train": strained[:6], "valid": strained[6:9], "test": strained[9:]}
    found = leakage(sets, 0.01)
    assert (found["duplicates"], found["near_duplicates"]) == (0, 0)
    turned = strained[0].copy()  # the same lattice, turned, and by other vectors
    turned.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 2, 1]]) @ turned.cell.array)
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    close = strained[1].copy()
    close.set_cell(close.cell.array * 1.001)
    found = leakage(sets | {"test": [turned, close]}, 0.01)
    assert (found["duplicates"], found["near_duplicates"]) == (1, 1)


# --- labels that no key asks for


def test_labels_that_no_key_asks_for_are_found(tmp_path: Path) -> None:
    frames = mixed(4)
    for i, atoms in enumerate(frames):
        atoms.info |= {"dft_stress": np.ones(6), "free_energy": -1.0, "energy_per_atom": -2.0}
        atoms.info |= {"kinetic_energy": 1.0, "note": "energy", "stress_of_life": "much"}
        atoms.info |= {"charge": i, "config_energy_weight": 1.0, "my_energies": np.ones(3)}
        atoms.arrays["PBE_forces"] = np.ones((len(atoms), 3))
        atoms.arrays["force_norm"] = np.ones(len(atoms))
    del frames[0].arrays[FORCES]
    path = write(tmp_path / "x.xyz", *frames)
    found = {x.name: (x.quantity, x.frames, x.instead) for x in unused_labels(path, Keys())}
    assert found == {
        "charge": ("total_charge", 3, 3),
        "dft_stress": ("stress", 4, 2),
        "PBE_forces": ("forces", 4, 1),
        "free_energy": ("energy", 4, 0),
    }
    own = Keys(
        forces="PBE_forces", stress="dft_stress", energy="free_energy", total_charge="charge"
    )
    assert {x.name: x.instead for x in unused_labels(path, own)} == {
        "REF_energy": 0,
        "REF_forces": 0,
        "REF_stress": 0,
    }
    assert unused_labels(tmp_path / "x.db", Keys()) == []
