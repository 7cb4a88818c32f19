"""MACE's HDF5, fairchem's LMDB, and data that are held in a file: the same as extended xyz."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from lora.data import held, leakage
from lora.data.grouping import SplitSettings
from lora.data.labels import Keys
from lora.data.structures import ENERGY, FORCES, STRESS, load_structures, read_structures
from lora.data.structures import write_structures as write
from lora.errors import UserError
from lora.files.sealed import digest, read_json
from lora.mace import graphs as mace_graphs
from lora.mace.door import upstream
from lora.plan.commands import Base
from lora.plan.freshness import Files
from lora.plan.settings import TrainSettings
from lora.steps.audit import audit
from lora.steps.e0s import e0s
from lora.steps.replay import ReplaySettings, replay
from lora.steps.split import split
from lora.steps.train import train
from tests.support import counts
from tests.support.trainings import QUICK, lines_of, same, teacher_data


def labelled() -> list[Atoms]:
    """Molecules and crystals with all that MACE's formats can hold, and a free atom."""
    rng = np.random.default_rng(0)
    found = [molecule("CH3CHO") for _ in range(4)] + [bulk("NaCl", "rocksalt", 5.6) for _ in "ab"]
    for i, atoms in enumerate(found):
        atoms.rattle(0.05, rng=rng)
        atoms.info = {ENERGY: -10.0 - i, "config_type": f"kind{i % 2}", "config_weight": 1.0 + i}
        atoms.arrays[FORCES] = rng.normal(size=(len(atoms), 3))
        if atoms.pbc.all():
            atoms.info |= {STRESS: rng.normal(size=9), "config_energy_weight": 0.5}
    del found[0].arrays[FORCES]
    free = Atoms("H", info={ENERGY: -13.6, "config_type": "IsolatedAtom"})
    return [*found, free]


def as_hdf5(path: Path, frames: list[Atoms]) -> Path:
    """A file as mace_prepare_data writes it, by MACE's own functions."""
    data = upstream("mace.data")
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, "stress": STRESS}, arrays_keys={"forces": FORCES}
    )
    made = [data.config_from_atoms(atoms, key_specification=keys) for atoms in frames]
    with h5py.File(path, "w") as file:
        upstream("mace.data.utils").save_configurations_as_HDF5(made, 0, file)
    return path


def as_lmdb(path: Path, frames: list[Atoms], calculator: bool = False) -> Path:
    """A database as fairchem writes it, by the copy of its code in MACE."""
    base = upstream("mace.tools.fairchem_dataset.lmdb_dataset_tools").LMDBDatabase(path)
    for atoms in frames:
        atoms = atoms.copy()
        if calculator:
            found = {"energy": atoms.info.pop(ENERGY)}
            found |= {"forces": atoms.arrays.pop(FORCES)} if FORCES in atoms.arrays else {}
            atoms.calc = SinglePointCalculator(atoms, **found)
        base.write(atoms, data={})  # the default is one dict, which keeps what it was given
    base.close()
    return path


def alike(a: Atoms, b: Atoms) -> None:
    assert a.get_chemical_symbols() == b.get_chemical_symbols()
    assert (a.pbc == b.pbc).all()
    assert np.abs(a.positions - b.positions).max() < 1e-7
    assert np.abs(a.cell.array - b.cell.array).max() < 1e-7
    own = [
        {
            k: x
            for k, x in c.info.items()
            if not (k.startswith("lora_") or ("weight" in k and x == 1))
        }
        for c in (a, b)
    ]
    assert own[0].keys() == own[1].keys() and a.arrays.keys() == b.arrays.keys()
    for key, value in own[0].items():
        if isinstance(value, str):
            assert value == own[1][key]
        else:
            assert np.abs(np.asarray(value) - own[1][key]).max() < 1e-7
    for key in a.arrays:
        assert np.abs(a.arrays[key] - b.arrays[key]).max() < 1e-7


@pytest.mark.parametrize("form", ["h5", "lmdb", "aselmdb"])
def test_stored_files_hold_what_extended_xyz_holds(form: str, tmp_path: Path) -> None:
    frames = labelled()
    write(tmp_path / "data.xyz", frames)
    if form == "h5":
        path = as_hdf5(tmp_path / "data.h5", frames)
    else:
        path = as_lmdb(tmp_path / f"data.{form}", frames, calculator=form == "aselmdb")
    found, plain = read_structures(path), read_structures(tmp_path / "data.xyz")
    assert len(found) == len(plain) == len(frames)
    for i, (a, b) in enumerate(zip(found, plain, strict=True)):
        alike(a, b)
        assert a.info["lora_source_file"] == str(path) and a.info["lora_source_frame"] == i


def test_stored_labels_need_no_keys(tmp_path: Path) -> None:
    path = as_hdf5(tmp_path / "data.h5", labelled())
    found = read_structures(path, Keys(energy="dft_energy", forces="dft_forces"))
    assert found[1].info[ENERGY] == -11.0 and found[1].arrays[FORCES].any()


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    frames = labelled()
    (tmp_path / "train").mkdir()
    for i, part in ((2, frames[:3]), (10, frames[3:])):
        as_hdf5(tmp_path / "train" / f"train_{i}.h5", part)
    found = read_structures(tmp_path / "train")
    assert [x.info[ENERGY] for x in found] == [x.info[ENERGY] for x in frames]


def test_a_folder_is_another_when_one_of_its_files_is(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    paths = [as_hdf5(tmp_path / "train" / f"train_{i}.h5", labelled()[i:]) for i in (0, 1)]
    first = Files().digest(tmp_path / "train")
    assert Files().digest(tmp_path / "train") == first
    as_hdf5(paths[1], labelled()[2:])
    assert Files().digest(tmp_path / "train") != first


@pytest.mark.parametrize("form", ["h5", "lmdb"])
def test_damaged_files_are_one_line(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{form}"
    path.write_bytes(b"no such thing" * 1000)
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_structures(path)
    with pytest.raises(UserError, match="no such file"):
        read_structures(tmp_path / f"none.{form}")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(UserError, match="is not what mace_prepare_data writes"):
        read_structures(tmp_path / "other.h5")


@pytest.mark.parametrize("form", ["h5", "lmdb"])
def test_a_file_damaged_in_its_middle_is_one_line(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{form}"
    (as_hdf5 if form == "h5" else as_lmdb)(path, labelled())
    whole, failed = path.read_bytes(), 0
    whole = whole[:200_000]  # an LMDB is as long as its map
    for start in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:start] + b"\xff" * 300 + whole[start + 300 :])
        try:
            read_structures(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            failed += 1
    assert failed > 5


# --- held in a file


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three structures are many."""
    for module in (held, leakage, mace_graphs):
        monkeypatch.setattr(module, "HELD", 3)


def test_sequences_in_a_file_are_sequences(few: None) -> None:
    frames = labelled()
    found = held.hold(iter(frames))
    assert isinstance(found, held.Spool) and len(found) == len(frames)
    numbers = list(range(len(frames)))
    energies = [x.info[ENERGY] for x in frames]

    def of(structures: object) -> list[float]:
        return [x.info[ENERGY] for x in structures]

    assert of(found) == energies and found[-1].info[ENERGY] == energies[-1]
    for cut in (slice(2), slice(1, 5, 2), slice(None, None, -1), slice(-2, None)):
        assert of(found[cut]) == energies[cut] == of(found[cut][:])
    with pytest.raises(IndexError):
        found[len(frames)]
    assert of(held.some(found, [4, 0, 4])) == [energies[i] for i in (4, 0, 4)]
    assert of(held.only(found, lambda x: len(x) > 1)) == energies[:-1]
    both = held.joined(found, frames)
    assert of(both) == 2 * energies and of(both[::3]) == (2 * energies)[::3]
    assert [both[i].info[ENERGY] for i in numbers] == energies
    twice = held.changed(found, lambda x: x.info.update({ENERGY: 2 * x.info[ENERGY]}))
    assert of(twice) == of(twice) == [2 * x for x in energies] and of(found) == energies
    found[0].info[ENERGY] = 7.0  # a copy
    assert of(found) == energies
    assert held.hold(iter(frames[:3])) == frames[:3]


def test_steps_give_the_same_in_memory_and_in_a_file(
    tmp_path: Path, files: dict[str, Path], inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split, audit, E0s, replay and training, byte for byte; and nothing is in a list."""
    data = teacher_data(12, seed=3)
    for i, atoms in enumerate(data):
        atoms.info |= {"config_type": "ab"[i % 2], "mol": f"m{i % 6}"}
    data.append(data[0].copy())  # an exact duplicate
    free = Atoms("O", info={ENERGY: -1.0, "config_type": "IsolatedAtom"})
    write(tmp_path / "all.xyz", [*data, free])
    write(tmp_path / "more.xyz", teacher_data(5, seed=4))
    base = Base(files["foundation"])
    weights = {"a": 2.0, "nobody": 3.0}

    def run(out: Path) -> dict:
        for method in ("random", "group"):
            settings = SplitSettings(
                method=method,
                group_key="mol",
                valid_fraction=0.2,
                test_fraction=0.2,
                config_type_weights=weights,
                test_files={"more": tmp_path / "more.xyz"},
            )
            split(tmp_path / "all.xyz", settings, out / method)
        made = {"audit": audit({"data": str(tmp_path / "all.xyz")}, base, Keys())}
        made["e0s"] = e0s(out / "random" / "train.xyz", base, out / "e0s.json")
        replay(tmp_path / "all.xyz", base, out / "replay.xyz", ReplaySettings(num_samples=5))
        train(TrainSettings(**QUICK), **inputs, out=out / "point")
        made["splits"] = [read_json(out / x / "split.json") for x in ("random", "group")]
        return made

    first = run(tmp_path / "a")
    for module in (held, leakage, mace_graphs):
        monkeypatch.setattr(module, "HELD", 3)
    assert isinstance(load_structures(tmp_path / "a" / "random" / "train.xyz"), held.Spool)
    second = run(tmp_path / "b")
    assert repr(first) == repr(second)
    for x in ("random", "group"):
        for name in ("train", "valid", "test"):
            a, b = (tmp_path / y / x / f"{name}.xyz" for y in "ab")
            assert digest(a) == digest(b)
    assert digest(tmp_path / "a" / "replay.xyz") == digest(tmp_path / "b" / "replay.xyz")
    assert same(tmp_path / "a" / "point", tmp_path / "b" / "point")
    assert len(lines_of(tmp_path / "b" / "point")) > 1


MEMORY = """
import resource, sys
import numpy as np
from lora.data.grouping import SplitSettings
from lora.steps.split import split
import lora.data.stored as stored
from ase import Atoms

GRID = 1.5 * np.indices((3, 3, 3)).reshape(3, 27).T

def frames(path, keys):  # a file that does not have to be written first
    names, rng = keys.named(), np.random.default_rng(0)
    for i in range(int(sys.argv[1])):
        atoms = Atoms("C4H4O", positions=GRID[rng.permutation(27)[:9]])
        atoms.positions += rng.normal(scale=0.05, size=(9, 3))
        atoms.info[names["energy"]] = float(i)
        atoms.arrays[names["forces"]] = rng.normal(size=(9, 3))
        yield atoms

import lora.data.structures
lora.data.structures.stored = frames
split("made.h5", SplitSettings(), sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """A list takes 5 kB for each structure; what is left is a few numbers of each."""
    few, many = 11_000, counts.of(22_000, 1_000_000)
    peaks = []
    for n in (few, many):
        made = subprocess.run(
            [sys.executable, "-c", MEMORY, str(n), tmp_path / str(n)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(made.stdout.split()[-1]))
    assert (peaks[1] - peaks[0]) * 1e6 / (many - few) < 1500  # bytes for each structure
