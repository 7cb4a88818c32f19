"""Step `label`: let a command of the user label frames, or collect what was labelled by hand.

labelled.xyz

    DIR/0000/input.xyz    a frame, extended xyz
    DIR/0000/output.xyz   the same frame with its labels, as the user's code has left it
"""

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from lora.data.checked import OWN, check_geometry
from lora.data.labels import NAMES, Keys, has_label
from lora.data.structures import FORCES, load_structures, read_structures, write_structures
from lora.errors import UserError
from lora.plan.words import few

INPUT, OUTPUT = "input.xyz", "output.xyz"
APART = 1e-3  # Å; codes write positions with few digits
NEEDED = ("energy", "forces")


def label(
    frames_file: str | Path,
    out: str | Path,
    command: str | None = None,
    folder: str | Path | None = None,
    keys: Keys = Keys(),
) -> list[str]:
    """Label frames, and write them with their labels.

    Without a folder the command runs once, on all frames.  With one it runs for each frame that
    has no output yet, so that it goes on where it was stopped; without a command the inputs are
    written for whoever labels them, and the same call collects the outputs once all are there.

    Args:
        frames_file: The frames.
        out: The file to write.
        command: A command line with {input} and {output}, files in extended xyz.
        folder: Where a folder a frame is made.
        keys: The names of the labels in what the command writes, and in `out`.

    Returns:
        The names of the frames that have no output yet, whose inputs were just written; [] once
        `out` is there.

    Raises:
        UserError: The command failed, outputs are missing, or they are not of these frames.
    """
    frames = list(load_structures(frames_file))
    for i, atoms in enumerate(frames):
        check_geometry(atoms, f"{frames_file} frame {i}")
    _check(command, folder)
    if folder is None:
        with tempfile.TemporaryDirectory() as work:
            given, made = Path(work) / INPUT, Path(work) / OUTPUT
            write_structures(given, frames)
            _run(str(command), given, made)
            labelled = _read(frames, [(made, len(frames))], keys)
    else:
        places = [Path(folder) / f"{i:04d}" for i in range(len(frames))]
        fresh = _write_inputs(frames, places)
        for place in places:
            if command and not (place / OUTPUT).is_file():
                _run(command, place / INPUT, place / OUTPUT)
        if missing := [x for x in places if not (x / OUTPUT).is_file()]:
            return _left(missing, len(places), fresh, Path(folder))
        labelled = _read(frames, [(place / OUTPUT, 1) for place in places], keys)
    write_structures(out, labelled)
    print(f"{out}: {len(labelled)} frames with {' and '.join(NEEDED)}")
    return []


def _check(command: str | None, folder: str | Path | None) -> None:
    """Raise UserError where nobody would label, or the command lacks a file."""
    if not command and folder is None:
        raise UserError("label: give --command, or --folder to label by hand; see docs/loop.md")
    for part in ("{input}", "{output}") if command else ():
        if part not in str(command):
            raise UserError(f"label: --command {command!r} has no {part}, which stands for a file")


def _write_inputs(frames: Sequence[Atoms], places: Sequence[Path]) -> bool:
    """Write an input a frame; return whether all of them are new.

    Raises UserError: the folder holds other frames.
    """
    there = [place for place in places if (place / INPUT).is_file()]
    for atoms, place in zip(frames, places, strict=True):
        if place in there:
            (old,) = load_structures(place / INPUT)
            if why := _other(old, atoms):
                raise UserError(
                    f"{place / INPUT}: is another frame ({why}); name a folder of its own for them"
                )
        else:
            write_structures(place / INPUT, [atoms])
    return not there


def _run(command: str, given: Path, made: Path) -> None:
    """Run the command on a file.

    Raises UserError: it failed, or left no output.
    """
    line = command.replace("{input}", shlex.quote(str(given)))
    line = line.replace("{output}", shlex.quote(str(made)))
    done = subprocess.run(line, shell=True, check=False)
    if done.returncode:
        made.unlink(missing_ok=True)
        raise UserError(f"label: exit code {done.returncode} of {line}")
    if not made.is_file():
        raise UserError(f"label: {line} has written no {made.name}")


def _left(missing: Sequence[Path], n: int, fresh: bool, folder: Path) -> list[str]:
    """Say what has to be labelled.

    Raises UserError: outputs are missing of inputs that were written before.
    """
    names = [place.name for place in missing]
    if not fresh:
        raise UserError(
            f"{folder}: {len(names)} of {n} frames have no {OUTPUT} yet: {few(names)}; run it "
            "again when they are labelled"
        )
    print(
        f"{folder}: {n} inputs are written, {names[0]}/{INPUT} and so on. Label each, write it "
        f"with its labels to {OUTPUT} beside it, and run the same command again"
    )
    return names


def _read(frames: Sequence[Atoms], files: Sequence[tuple[Path, int]], keys: Keys) -> list[Atoms]:
    """Return the frames with the labels that files hold: so many of each, in their order.

    Raises UserError: a file holds other frames, or a label is missing or no number.
    """
    out: list[Atoms] = []
    for path, n in files:
        made = read_structures(path, keys)
        if len(made) != n:
            raise UserError(f"{path}: holds {len(made)} frames, and {n} were to be labelled")
        for i, found in enumerate(made):
            given = frames[len(out)]
            if why := _other(found, given):
                raise UserError(f"{path} frame {i}: is not the frame that was given: {why}")
            if lacks := [keys.named()[x] for x in NEEDED if not has_label(found, x)]:
                raise UserError(f"{path} frame {i}: has no {lacks[0]}; label it, or name its key")
            out.append(_labelled(given, found, keys))
    return out


def _other(found: Atoms, given: Atoms) -> str:
    """Return how a frame differs from the one that was given; "" where it does not."""
    if len(found) != len(given):
        return f"it has {len(found)} atoms, not {len(given)}"
    if (found.numbers != given.numbers).any():
        return "its elements, or their order, are others"
    if (found.pbc != given.pbc).any():
        return "it is periodic along other directions"
    moved = float(np.linalg.norm(found.positions - given.positions, axis=1).max())
    if moved > APART:
        return f"an atom has moved by {moved:.2g} Å"
    strained = float(np.abs(found.cell.array - given.cell.array)[given.pbc].max(initial=0.0))
    return f"its cell differs by {strained:.2g} Å" if strained > APART else ""


def _labelled(given: Atoms, found: Atoms, keys: Keys) -> Atoms:
    """Return a frame with its labels under the names that the user's files have for them."""
    out = Atoms(given.numbers, positions=given.positions, cell=given.cell, pbc=given.pbc)
    out.info = {k: v for k, v in given.info.items() if not k.startswith(OWN)}
    for quantity, name in NAMES.items():
        held, into = (found.arrays, out.arrays) if name == FORCES else (found.info, out.info)
        if name in held:
            into[keys.named()[quantity]] = held[name]
    return out
