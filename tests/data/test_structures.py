"""Bad data: each mistake is one line with file, frame, key, and what to do."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from matscipy.neighbours import neighbour_list

from lora.data.near import nearest
from lora.data.origin import origin_of, where
from lora.data.structures import (
    ENERGY,
    FORCES,
    STRESS,
    Keys,
    load_structures,
    read_structures,
    write_structures,
)
from lora.errors import UserError


def water(**info: object) -> Atoms:
    atoms = molecule("H2O")
    atoms.info = {ENERGY: -14.0, **info}
    atoms.arrays[FORCES] = np.full((3, 3), 0.1)
    return atoms


def write(path: Path, *frames: Atoms) -> Path:
    ase.io.write(path, frames, format="extxyz")
    return path


def spoiled(change) -> list[Atoms]:
    atoms = water()
    change(atoms)
    return [water(), atoms]


def nan_forces(atoms: Atoms) -> None:
    atoms.arrays[FORCES][1, 2] = np.nan


def flat_cell(atoms: Atoms) -> None:
    atoms.pbc = True
    atoms.cell = [0, 0, 0]


def inf_position(atoms: Atoms) -> None:
    atoms.positions[0, 0] = np.inf


def odd_stress(atoms: Atoms) -> None:
    atoms.info[STRESS] = np.ones(5)


BAD = {
    "nan_forces": (nan_forces, "REF_forces holds a number that is not finite; remove"),
    "inf_energy": (lambda a: a.info.update({ENERGY: np.inf}), "REF_energy holds a number that"),
    "inf_position": (inf_position, "positions holds a number that is not finite"),
    "vector_energy": (lambda a: a.info.update({ENERGY: np.ones(4)}), "holds 4 numbers, not one"),
    "flat_cell": (flat_cell, "is periodic but its cell has no vectors"),
    "far": (lambda a: a.positions.__setitem__((0, 0), 1e12), "positions reaches 1e.12 Å; give"),
    "large": (lambda a: a.set_cell([9, 9, 1e12]), "cell reaches 1e.12 Å; give positions in Å"),
    "odd_stress": (odd_stress, r"REF_stress holds 5 numbers; give 6 \(Voigt\) or 9"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_frames_are_named(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "bad.xyz", *spoiled(change))
    with pytest.raises(UserError, match=message) as caught:
        read_structures(path)
    assert f"{path} frame 1: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "is empty"),
        ("this is not\nan xyz file\n", "cannot be read as extended xyz"),
        ("2\nProperties=species:S:1:pos:R:3\nH 0 0 0\n", "cannot be read as extended xyz"),
    ],
    ids=["missing", "empty", "prose", "truncated"],
)
def test_bad_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.xyz"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_structures(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_keys_and_ases_own(tmp_path: Path) -> None:
    """`energy` and `forces` end up in ASE's calculator, other names in info and arrays."""
    atoms = water(dft_e=-3.0)
    atoms.arrays["dft_f"] = np.full((3, 3), 0.2)
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=np.full((3, 3), 0.3))
    path = write(tmp_path / "x.xyz", atoms)
    (own,) = read_structures(path, Keys(energy="dft_e", forces="dft_f"))
    (ases,) = read_structures(path, Keys(energy="energy", forces="forces"))
    assert (own.info[ENERGY], own.arrays[FORCES][0, 0]) == (-3.0, 0.2)
    assert (ases.info[ENERGY], ases.arrays[FORCES][0, 0]) == (-5.0, 0.3)


@pytest.mark.parametrize("form", ["voigt", "nine", "3x3"])
def test_stress_in_every_form(tmp_path: Path, form: str) -> None:
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    value = {"voigt": np.array([1.0, 2, 3, 4, 5, 6]), "nine": full.reshape(9), "3x3": full}[form]
    atoms = bulk("C")
    atoms.info = {ENERGY: -1.0, STRESS: value}
    atoms.arrays[FORCES] = np.zeros((2, 3))
    path = write(tmp_path / "x.xyz", atoms)
    write_structures(tmp_path / "y.xyz", read_structures(path))
    (back,) = load_structures(tmp_path / "y.xyz")
    assert np.array_equal(np.reshape(back.info[STRESS], (3, 3)), full)


def test_numbers_survive_writing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    atoms = water(config_type="hot", group="a b")
    atoms.positions += rng.normal(size=(3, 3))
    atoms.info[ENERGY] = -7255.123456789012
    write_structures(tmp_path / "x.xyz", [atoms])
    (back,) = load_structures(tmp_path / "x.xyz")
    assert back.info[ENERGY] == atoms.info[ENERGY]
    assert back.info["config_type"] == "hot"
    assert np.abs(back.positions - atoms.positions).max() < 1e-8


NAMES = ["dft.xyz", "my data (1).xyz", "étoile.xyz", "a=b.xyz", "it's.xyz", 'say "no".xyz']
NAMES += ["[1].xyz", "{x}.xyz", "a,b.xyz", "T.xyz", "1.xyz"]


@pytest.mark.parametrize("name", NAMES)
def test_the_origin_survives_writing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a file is called, twice written and read."""
    monkeypatch.chdir(tmp_path)
    path = write(Path(name), water(), water())
    frames = read_structures(path)
    assert [origin_of(a) for a in frames] == [(str(path), 0), (str(path), 1)]
    for _ in range(2):
        write_structures(tmp_path / "train.xyz", frames[::-1])
        frames = load_structures(tmp_path / "train.xyz")[::-1]
    assert [origin_of(a) for a in frames] == [(str(path), 0), (str(path), 1)]
    assert where(frames[1], "train.xyz", 0) == f"{path} frame 1"


def test_the_origin_is_as_named_and_touches_no_key_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"source_file": "mine", "source_frame": 5, "frame": "f", "lora_source_file": "old"}
    write(tmp_path / "dft.xyz", water(**own))
    monkeypatch.chdir(tmp_path)
    (atoms,) = read_structures("dft.xyz")
    assert origin_of(atoms) == ("dft.xyz", 0)
    assert {k: atoms.info[k] for k in ("source_file", "source_frame", "frame")} == {
        "source_file": "mine",
        "source_frame": 5,
        "frame": "f",
    }


def test_an_origin_that_is_not_there_is_the_file_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", water(), water())
    assert [origin_of(a) for a in load_structures(path)] == [(str(path), 0), (str(path), 1)]
    assert origin_of(water()) is None and where(water(), "m.model", 3) == "m.model frame 3"


NAMES_OF_TYPES = ["a\\b", "tab\tin", "a=b", "x=", "wide\u3000space", '"', "[", "it's", "1_000", "٣"]


@pytest.mark.parametrize("name", NAMES_OF_TYPES)
def test_words_survive_writing_twice(tmp_path: Path, name: str) -> None:
    atoms = water(config_type=name)
    for _ in range(2):
        write_structures(tmp_path / "x.xyz", [atoms])
        (atoms,) = load_structures(tmp_path / "x.xyz")
    assert (atoms.info["config_type"], atoms.info[ENERGY]) == (name, -14.0)


def test_what_holds_nothing_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", water())
    path.write_text(path.read_text().replace(' pbc="F F F"', ' pbc="F F F" config_type=""'))
    (atoms,) = read_structures(path)
    assert "config_type" not in atoms.info and atoms.info[ENERGY] == -14.0


def test_a_label_in_two_places(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", water())
    path.write_text(path.read_text().replace(" pbc=", ' REF_forces="1 2 3" pbc='))
    with pytest.raises(
        UserError, match="frame 0: REF_forces stands in the comment line and in the"
    ):
        read_structures(path)


def test_a_number_of_underscores_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "x.xyz", water())
    path.write_text(path.read_text().replace("REF_energy=-14.0", "REF_energy=-1_4"))
    with pytest.raises(UserError, match="frame 0: REF_energy is '-1_4', not a number"):
        read_structures(path)


def test_a_text_that_breaks_a_line(tmp_path: Path) -> None:
    text = r'"_JSON \"a\\nb\""'
    path = write(tmp_path / "x.xyz", water())
    path.write_text(path.read_text().replace(" pbc=", f" config_type={text} pbc="))
    with pytest.raises(UserError, match="frame 0: 'config_type' holds a control character"):
        read_structures(path)


def test_a_name_of_a_file_on_two_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a\nb.xyz", water())
    with pytest.raises(UserError, match="the name of the file holds a control character"):
        read_structures(path)


def test_atomic_numbers_that_no_element_has(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text("1\nProperties=Z:I:1:pos:R:3 REF_energy=-1\n999 0 0 0\n")
    with pytest.raises(UserError, match="the unknown element of atomic number 999"):
        read_structures(path)


def test_large_and_flat_cells_take_no_memory() -> None:
    """A grid of cells of the cutoff would have 10^15 of them."""
    for cell in ([1e4] * 3, [[5, 0, 0], [1e4, 5, 0], [0, 0, 5]], [1e5, 1e5, 9]):
        atoms = Atoms("OH", positions=[[0, 0, 0.05], [0, 0, -0.05]], cell=cell, pbc=True)
        distance, i, j, crosses = nearest(atoms, 0.2)
        assert (i, j, crosses) == (0, 1, False) and distance == pytest.approx(0.1)
    atoms = Atoms("H" * 50_000, cell=[10] * 3, pbc=True)  # all in one place
    assert nearest(atoms, 0.2) == (0.0, 0, 1, False)


def test_the_nearest_are_those_of_a_grid() -> None:
    """Cells of every shape, periodic along some directions."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        pbc = rng.permutation([True, rng.random() < 0.5, rng.random() < 0.5])
        cell = rng.normal(size=(3, 3)) + 3 * np.eye(3)
        n = int(rng.integers(1, 300, endpoint=True)) if rng.random() < 0.1 else 5
        atoms = Atoms(f"H{n}", rng.normal(size=(n, 3)) * 4, cell=cell, pbc=pbc)
        i, j, d = neighbour_list("ijd", atoms, 1.0)
        found = nearest(atoms, 1.0)
        assert found[0] == (pytest.approx(d.min()) if len(d) else np.inf)
        if len(d):
            assert any({a, b} == {*found[1:3]} for a, b in zip(i, j, strict=True))
