"""Splits: fractions, whole groups, contiguous blocks, seeds, leakage."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from lora.data.fingerprint import fingerprint
from lora.data.grouping import SplitSettings, allocate, weigh_types
from lora.data.leakage import leakage
from lora.data.origin import origin_of, where
from lora.data.structures import ENERGY, FORCES, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json, read_seal
from lora.mace.door import upstream
from lora.mace.graphs import graphs
from lora.steps.split import split
from tests.support.models import make_model

N = 60


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Frames of a trajectory, numbered by their energy, in six groups, and two free atoms."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(N):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.1, size=(3, 3))
        atoms.info = {ENERGY: float(i), "mol": f"m{i % 6}"}
        atoms.arrays[FORCES] = np.zeros((3, 3))
        frames.append(atoms)
    for symbol in "HO":
        free = Atoms(symbol, info={ENERGY: -1.0, "config_type": "IsolatedAtom"})
        free.arrays[FORCES] = np.zeros((1, 3))
        frames.append(free)
    write_structures(tmp_path / "all.xyz", frames)
    return tmp_path / "all.xyz"


def sets_of(out: Path) -> dict[str, list[int]]:
    return {
        name: [int(a.info[ENERGY]) for a in load_structures(out / f"{name}.xyz") if len(a) > 1]
        for name in ("train", "valid", "test")
    }


@pytest.mark.parametrize("method", ["random", "blocked", "group"])
def test_every_structure_once_and_reproducibly(dataset: Path, tmp_path: Path, method: str) -> None:
    settings = {"method": method, "block_size": 5, "group_key": "mol"}
    settings |= {"valid_fraction": 0.2, "test_fraction": 0.2}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        split(dataset, SplitSettings(seed=seed, **settings), tmp_path / name)
    a, b, c = (sets_of(tmp_path / x) for x in "abc")
    assert a == b != c
    assert sorted(a["train"] + a["valid"] + a["test"]) == list(range(N))
    for name in ("valid", "test"):
        assert len(a[name]) in ((10,) if method == "group" else (12, 10, 15))
    if method == "blocked":
        for name in ("valid", "test"):
            blocks = {i // 5 for i in a[name]}
            assert all(set(range(5 * k, 5 * k + 5)) <= set(a[name]) for k in blocks)
    if method == "group":
        groups = {name: {i % 6 for i in members} for name, members in a.items()}
        assert not groups["train"] & groups["valid"] and not groups["train"] & groups["test"]
    summary = read_json(tmp_path / "a/split.json")
    assert summary["counts"]["isolated_atoms"] == 2
    free = [x for x in load_structures(tmp_path / "a/train.xyz") if len(x) == 1]
    assert len(free) == 2
    assert all(i in a[summary["assigned"][str(i)]] for i in range(N))


def test_given_files_and_further_test_sets(dataset: Path, tmp_path: Path) -> None:
    given = {"valid": str(dataset), "test": str(dataset)}
    settings = SplitSettings(method="given", given=given, test_files={"hot": str(dataset)})
    summary = split(dataset, settings, tmp_path / "out")
    assert summary["counts"]["train"] == N
    assert set(summary["test_sets"]) == {"test", "hot"}
    assert summary["leakage"]["duplicates"] >= N  # the same file three times: said


def test_the_test_set_of_another_sweep_is_that_alone(dataset: Path, tmp_path: Path) -> None:
    """Its test.xyz has all of its test sets, of which the further ones are files of their own."""
    first = SplitSettings(method="random", seed=1, test_files={"hot": str(dataset)})
    before = split(dataset, first, tmp_path / "one")["test_sets"]
    assert before["hot"] == N > before["test"] > 0
    given = {x: str(tmp_path / f"one/{x}.xyz") for x in ("valid", "test")}
    again = SplitSettings(method="given", given=given, test_files={"hot": str(dataset)})
    summary = split(tmp_path / "one/train.xyz", again, tmp_path / "two")
    assert summary["test_sets"] == before
    words = f"{N} structures of hot are left out: name their files in data.test_sets"
    assert [words in x for x in summary["warnings"]].count(True) == 1


def test_leakage_sees_through_motion_and_order() -> None:
    rng = np.random.default_rng(1)
    atoms = molecule("CH3CHO")
    moved = atoms.copy()
    order = rng.permutation(len(atoms))
    moved.positions = (moved.positions @ Rotation.random(rng=rng).as_matrix().T + 3.0)[order]
    moved.numbers = moved.numbers[order]
    near = atoms.copy()
    near.positions[0] += 0.004
    far = atoms.copy()
    far.positions[0] += 0.5
    found = leakage({"train": [atoms], "valid": [moved], "test": [near, far]}, 0.01)
    assert (found["duplicates"], found["near_duplicates"]) == (1, 2)
    inside = leakage({"train": [atoms, moved], "valid": [], "test": [far]}, 0.01)
    assert (inside["duplicates"], inside["near_duplicates"]) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kfold"}, "split.method: 'kfold' is not one of"),
        ({"valid_fraction": 0.7, "test_fraction": 0.4}, "1.1 leaves nothing to train on"),
        ({"valid_fraction": 1.5}, r"split.valid_fraction: 1.5 must lie in \[0, 1\)"),
        ({"method": "group"}, "split.group_key: the method `group` needs"),
        ({"method": "group", "group_key": "nokey"}, "frame 0: has no nokey"),
        ({"method": "given"}, "split.valid_file: the method `given` needs it"),
        ({"valid_fraction": 0.0}, "leave the valid set empty"),
    ],
    ids=lambda x: str(x)[:24] if isinstance(x, dict) else "",
)
def test_bad_settings(dataset: Path, tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(dataset, SplitSettings(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_structure_keeps_its_origin(dataset: Path, tmp_path: Path) -> None:
    """File, as it is named, and frame: in each set, and where leakage names a pair."""
    write_structures(tmp_path / "hot.xyz", load_structures(dataset)[:3])
    settings = SplitSettings(test_files={"hot": str(tmp_path / "hot.xyz")}, near_duplicate=0.5)
    summary = split(dataset, settings, tmp_path / "out")
    seen = 0
    for name in ("train", "valid", "test"):
        for i, atoms in enumerate(load_structures(tmp_path / "out" / f"{name}.xyz")):
            origin = origin_of(atoms)
            if atoms.info.get("test_set") == "hot":
                assert origin == (str(tmp_path / "hot.xyz"), int(atoms.info[ENERGY]))
                continue
            assert origin.file == str(dataset) and where(atoms, "x", i) == str(origin)
            if len(atoms) > 1:
                assert origin.frame == int(atoms.info[ENERGY])  # numbered by their energy
                assert summary["assigned"][str(origin.frame)] == name
            seen += 1
    assert seen == N + 2
    pair = summary["leakage"]["closest"][0]
    assert pair["angstrom"] < 1e-6
    assert {pair["a"]["source_file"], pair["b"]["source_file"]} == {
        str(dataset),
        str(tmp_path / "hot.xyz"),
    }
    assert pair["a"]["frame"] == pair["b"]["frame"]
    sets = {name: load_structures(tmp_path / "out" / f"{name}.xyz") for name in ("train", "test")}
    for one in (x for pair in summary["leakage"]["closest"] for x in (pair["a"], pair["b"])):
        if one["set"] != "valid":
            free = 2 if one["set"] == "train" else 0  # free atoms come first
            atoms = sets[one["set"]][free + one["structure"]]
            assert origin_of(atoms) == (one["source_file"], one["frame"])


def test_a_message_names_the_frame_of_the_file(dataset: Path, tmp_path: Path) -> None:
    """Free atoms count as frames, too."""
    frames = load_structures(dataset)
    free, rest = frames[N:], frames[:N]
    del rest[4].info["mol"]
    write_structures(tmp_path / "b.xyz", [*free, *rest])
    settings = SplitSettings(method="group", group_key="mol")
    with pytest.raises(UserError, match=r"b\.xyz frame 6: has no mol"):
        split(tmp_path / "b.xyz", settings, tmp_path / "out")


def test_a_receipt_takes_the_place_of_split_json(dataset: Path, tmp_path: Path) -> None:
    receipt = Receipt(tmp_path / "out/split.json", {"settings": 1})
    found = split(dataset, SplitSettings(), tmp_path / "out", receipt)
    assert read_json(receipt.path) == found
    assert read_seal(receipt.path)["stamp"] == {"settings": 1}
    assert set(read_seal(receipt.path)["files"]) == {"train.xyz", "valid.xyz", "test.xyz"}


def test_weights_of_config_types_are_those_of_mace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = []
    for i in range(8):
        atoms = molecule("H2O")
        atoms.info = {ENERGY: float(i)}
        atoms.info |= {"config_type": "hot"} if i % 2 else {}
        atoms.info |= {"config_weight": 2.0} if i < 4 else {}
        atoms.arrays[FORCES] = np.zeros((3, 3))
        frames.append(atoms)
    write_structures(tmp_path / "all.xyz", frames)
    weights = {"hot": 3.0, "Default": 0.25, "cold": 9.0, "isolated_atom": 2.0}
    atom = Atoms("H", info={ENERGY: -13.0, "config_type": "isolated_atom"})
    write_structures(tmp_path / "all.xyz", [atom, *frames])
    write_structures(tmp_path / "more.xyz", frames[:1])  # none is hot
    settings = SplitSettings(
        config_type_weights=weights, test_files={"more": str(tmp_path / "more.xyz")}
    )
    split(tmp_path / "all.xyz", settings, tmp_path / "out")
    of = upstream("mace.data").config_from_atoms
    wanted = {float(i): of(x, config_type_weights=weights).weight for i, x in enumerate(frames)}
    assert sorted(set(wanted.values())) == [0.25, 0.5, 3, 6]
    model = make_model()
    for name in ("train", "valid", "test"):
        found = load_structures(tmp_path / f"out/{name}.xyz")
        free = [atoms for atoms in found if len(atoms) == 1]
        assert [x.info["config_weight"] for x in free] == [2.0] * (name == "train")
        found = [atoms for atoms in found if len(atoms) > 1]
        for atoms, graph in zip(found, graphs(found, model), strict=True):
            own = wanted[atoms.info[ENERGY]]
            plain = 2.0 if atoms.info[ENERGY] < 4 else 1.0  # test errors count as they did
            assert float(graph.weight) == (plain if name == "test" else own)
    assert caplog.text.count("data.config_type_weights: no structure is cold") == 1


def test_what_a_split_has_weighed_is_not_weighed_again() -> None:
    """As where a training set of an earlier sweep goes on beside new frames."""
    frames = [molecule("H2O") for _ in range(3)]
    frames[0].info |= {"config_type": "hot", "config_weight": 2.0}
    frames[1].info |= {"config_type": "hot"}
    for weights in ({"hot": 0.1}, {"hot": 0.1}, {"hot": 0.0}, {"hot": 0.5}):
        weigh_types(frames, weights)
        found = [x.info.get("config_weight", 1.0) for x in frames]
        assert found == [2.0 * weights["hot"], weights["hot"], 1.0]
    weigh_types(frames, {})
    assert [x.info.get("config_weight", 1.0) for x in frames] == [2.0, 1.0, 1.0]
    weigh_types(frames, {"Default": 3.0})
    assert [x.info["config_weight"] for x in frames] == [2.0, 1.0, 3.0]


# --- many structures, and large ones


def test_pairs_are_counted_and_not_listed() -> None:
    """Frames that are all alike: n^2 pairs, in the memory of n."""
    frames = [molecule("H2O") for _ in range(2400)]
    for i, atoms in enumerate(frames):
        atoms.positions[0, 2] += 1e-4 * (i % 7)
    sets = {"train": frames[:2000], "valid": frames[2000:2200], "test": frames[2200:]}
    tracemalloc.start()
    found = leakage(sets, 0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["duplicates"] + found["near_duplicates"] == 2000 * 400 + 200 * 200
    same = [[i % 7 for i in range(2400)][x] for x in (slice(2000), slice(2000, 2200))]
    rest = [i % 7 for i in range(2200, 2400)]
    pairs = [(same[0], same[1]), (same[0], rest), (same[1], rest)]
    assert found["duplicates"] == sum(a.count(x) * b.count(x) for a, b in pairs for x in range(7))
    assert len(found["closest"]) == 20 and found["counted_every"] == 1
    assert peak < 150e6


def test_of_too_many_pairs_some_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora.data.leakage.MANY", 1000)
    frames = [molecule("H2O") for _ in range(200)]
    found = leakage({"train": frames[:100], "valid": frames[100:], "test": []}, 0.01)
    assert (found["counted_every"], found["duplicates"]) == (10, 100 * 100)


def test_fingerprints_of_periodic_structures_are_those_of_ase() -> None:
    """All pairs by the nearest image, for cells of every shape."""
    rng = np.random.default_rng(2)
    for _ in range(40):
        cell = rng.normal(size=(3, 3)) + 4 * np.eye(3)
        atoms = Atoms("H7", rng.normal(size=(7, 3)) * 4, cell=cell, pbc=True)
        pairs = np.sort(atoms.get_all_distances(mic=True)[np.triu_indices(7, 1)])
        found = fingerprint(atoms)[:64]
        assert np.abs(found - pairs[np.linspace(0, 20, 64).round().astype(int)]).max() < 1e-9


@pytest.mark.parametrize("periodic", [True, False])
def test_large_structures_are_known_by_their_neighbours(periodic: bool) -> None:
    """In another cell, rotated and in another order; not where one atom has moved."""
    rng = np.random.default_rng(3)
    atoms = bulk("Cu", cubic=True) * (11, 11, 11)  # 5,324 atoms: all pairs took 23 GB
    atoms.rattle(0.1, rng=rng)
    atoms.pbc = periodic
    other = atoms[rng.permutation(len(atoms))]
    turn = Rotation.random(rng=rng).as_matrix()
    cell = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array
    other.set_cell(cell @ turn.T)
    other.positions = (other.positions + 5) @ turn.T
    moved = atoms.copy()
    moved.positions[17] += 0.5
    tracemalloc.start()
    found = leakage({"train": [atoms], "valid": [other], "test": [moved]}, 0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found["duplicates"], found["near_duplicates"]) == (1, 0)
    assert peak < 100e6


def test_groups_are_allocated_in_one_pass() -> None:
    groups = [*range(100_000)]
    found = allocate(groups, SplitSettings())
    assert found.count("test") == found.count("valid") == 10_000
    assert allocate([f"{x}" for x in groups], SplitSettings()) == found


def test_a_group_may_have_a_name_of_several_words(dataset: Path, tmp_path: Path) -> None:
    frames = load_structures(dataset)
    for atoms in frames:
        atoms.info["mol"] = np.array([1, int(atoms.info[ENERGY]) % 6])
    write_structures(tmp_path / "b.xyz", frames)
    split(tmp_path / "b.xyz", SplitSettings(method="group", group_key="mol"), tmp_path / "out")
    groups = [{i % 6 for i in x} for x in sets_of(tmp_path / "out").values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2]
