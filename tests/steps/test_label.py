"""Labels by a command of the user, or by hand in a folder: only what fits the frames is taken."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read, write

from lora.cli.main import main
from lora.data.labels import Keys
from lora.data.structures import read_structures, write_structures
from lora.errors import UserError
from lora.steps.label import label

CODE = """
import sys
from ase.io import read, write
frames = read(sys.argv[1], index=":")
for i, atoms in enumerate(frames):
    atoms.info["{energy}"] = -1.0 - len(atoms)
    atoms.arrays["{forces}"] = 0.1 * atoms.positions
    {more}
write(sys.argv[2], frames, format="extxyz")
"""


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    made = [molecule("CH3OH"), bulk("C", "diamond", a=3.6)]
    for i, atoms in enumerate(made):
        atoms.info |= {"config_type": f"md{i}", "note": 7, "total_charge": 1}
    write_structures(tmp_path / "chosen.xyz", made)
    return tmp_path / "chosen.xyz"


@pytest.fixture
def code(tmp_path: Path) -> Callable[..., str]:
    """A command that labels, and does something more to frames."""

    def make(more: str = "pass", energy: str = "REF_energy", forces: str = "REF_forces") -> str:
        path = tmp_path / "a code.py"
        path.write_text(CODE.format(more=more, energy=energy, forces=forces))
        return f"'{sys.executable}' '{path}' {{input}} {{output}}"

    return make


def test_a_command_labels_all_frames_at_once(frames: Path, tmp_path: Path, code: Callable) -> None:
    out, keys = tmp_path / "labelled.xyz", Keys(energy="dft_energy", forces="dft_forces")
    label(frames, out, code(energy="dft_energy", forces="dft_forces"), keys=keys)
    labelled = read_structures(out, keys)  # as a sweep reads them
    for atoms, given in zip(labelled, read(frames, ":"), strict=True):
        assert atoms.info["REF_energy"] == -1.0 - len(given)
        assert np.allclose(atoms.arrays["REF_forces"], 0.1 * given.positions)
        assert np.array_equal(atoms.positions, given.positions)
        assert atoms.info["config_type"].startswith("md") and atoms.info["note"] == 7
        assert atoms.info["total_charge"] == 1 and (atoms.pbc == given.pbc).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("atoms.positions[1] += 0.1", "output.xyz frame 0: is not .*: an atom has moved by 0.17 Å"),
        ("atoms.numbers[0] = 14", "frame 0: is not .*: its elements, or their order, are others"),
        ("atoms.cell *= 1.1", "frame 1: is not .*: its cell differs by 0.18 Å"),
        ("del atoms.arrays['REF_forces']", "frame 0: has no REF_forces; label it"),
        ("atoms.info['REF_energy'] = float('nan')", "REF_energy holds a number that is not finite"),
        ("frames.pop()", "holds 1 frames, and 2 were to be labelled"),
        ("sys.exit(3)", "label: exit code 3 of "),
        ("frames.clear(); break", "output.xyz: (is empty|holds no structures)"),
    ],
)
def test_what_does_not_fit_is_refused(
    frames: Path, tmp_path: Path, code: Callable, more: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        label(frames, tmp_path / "labelled.xyz", code(more))
    assert not (tmp_path / "labelled.xyz").exists()


def test_by_hand_in_a_folder(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "labelled.xyz", tmp_path / "work"
    command = ["label", str(frames), "--folder", str(folder), "--out", str(out)]
    assert main(command) == 0
    assert "2 inputs are written, 0000/input.xyz and so on" in capsys.readouterr().out
    assert main(command) == 2
    assert "2 of 2 frames have no output.xyz yet: 0000, 0001;" in capsys.readouterr().err
    for i, place in enumerate(("0000", "0001")):
        (atoms,) = read(folder / place / "input.xyz", ":")
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -2.0 - i, 0 * atoms.positions
        write(folder / place / "output.xyz", atoms, format="extxyz")
        if not i:
            assert main(command) == 2 and not out.exists()
            assert "1 of 2 frames have no output.xyz yet: 0001;" in capsys.readouterr().err
    assert main(command) == 0
    assert [x.info["REF_energy"] for x in read_structures(out)] == [-2.0, -3.0]
    write_structures(tmp_path / "others.xyz", [molecule("H2O"), molecule("CH4")])
    assert main(["label", str(tmp_path / "others.xyz"), *command[2:]]) == 2
    assert "input.xyz: is another frame (it has 6 atoms, not 3)" in capsys.readouterr().err


def test_a_command_goes_on_where_it_was_stopped(
    frames: Path, tmp_path: Path, code: Callable
) -> None:
    out, folder = tmp_path / "labelled.xyz", tmp_path / "work"
    with pytest.raises(UserError, match="exit code 3"):  # of the second frame
        label(frames, out, code("if atoms.pbc.any(): sys.exit(3)"), folder)
    made = folder / "0000/output.xyz"
    before = made.stat().st_mtime_ns
    label(frames, out, code(), folder)
    assert made.stat().st_mtime_ns == before and len(read_structures(out)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "label: give --command, or --folder"),
        (["--command", "dft {input}"], "has no {output}, which stands for a file"),
        (["--command", "true {input} {output}"], "has written no output.xyz"),
    ],
)
def test_mistakes_are_a_line(
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    assert main(["label", str(frames), "--out", str(tmp_path / "out.xyz"), *options]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
