"""Read labelled structures from extended xyz, check them, and write them with fixed keys.

ASE and numpy only.  Units: energy eV, positions Å, forces eV/Å, stress eV/Å^3, virials eV.
"""

import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict

from lora.data.checked import HEAD, checked
from lora.data.free_atoms import is_isolated_atom, mark_free_atom
from lora.data.labels import (
    CHARGE,
    ENERGY,
    FORCES,
    QUANTITIES,
    SPIN,
    STRESS,
    VIRIALS,
    Keys,
    has_label,
    names_of,
)
from lora.data.origin import Origin, read_from
from lora.errors import UserError, out_of_memory
from lora.files.comment import CONTROL, ODD_NUMBER, SHOWN, escaped, parse_comment
from lora.files.sealed import check_file, write_text
from lora.files.xyz import is_xyz, scan

__all__ = ["CHARGE", "ENERGY", "FORCES", "SPIN", "STRESS", "VIRIALS", "Keys", "is_isolated_atom"]
log = logging.getLogger(__name__)
SETS = ("train", "valid", "test")


def read_structures(
    path: str | Path, keys: Keys = Keys(), said: list[str] | None = None
) -> list[Atoms]:
    """Read a labelled dataset, check every structure, and give the labels our keys.

    A label that a structure does not have is an absent key.  What is left out is logged.

    Args:
        path: A file of any format of ASE.
        keys: The names of the labels in the file.
        said: A list that what is logged is added to.

    Returns:
        The structures in the order of the file, with its name and their numbers as their origin
        (`lora.data.origin`).

    Raises:
        UserError: One line with file, frame, key, value and remedy.
    """
    found = _read(Path(path), labelled=True)
    first = names_of(found[0])
    dropped: Counter[str] = Counter()
    for i, atoms in enumerate(found):  # in place: both would not fit where one does
        found[i] = checked(atoms, keys, Origin(str(path), i), dropped)
    for line in _left_out(path, dropped, keys):
        log.warning(line)
        said = [] if said is None else said
        said.append(line)
    for atoms in found:
        mark_free_atom(atoms)
    if not any(has_label(atoms, x) for atoms in found for x in QUANTITIES):
        asked = ", ".join(keys.named()[x] for x in QUANTITIES)
        present = ", ".join(first) or "none"
        raise UserError(
            f"{path}: no frame has {asked}; the keys of frame 0 are {present}; set data.energy_key "
            "and data.forces_key"
        )
    return found


def _left_out(path: str | Path, dropped: Counter[str], keys: Keys) -> list[str]:
    """Return what there is to say of what `checked` left out."""
    lines = []
    if n := dropped[STRESS]:
        lines.append(
            f"{path}: the {keys.stress} of {n} structures is left out: they are not periodic, or "
            "their cell has no volume"
        )
    if n := dropped[HEAD]:
        lines.append(
            f"{path}: the key {HEAD} of {n} structures is left out: all are trained and evaluated "
            "with foundation.head"
        )
    return lines


def load_structures(path: str | Path) -> list[Atoms]:
    """Read structures without checking numbers.

    Args:
        path: A file that this project wrote, or one of which only the geometries are used.

    Returns:
        The structures.  Each keeps the origin that the file has for it; one without gets this
        file and its number here.

    Raises:
        UserError: The file holds no structures, or is no longer what was written.
    """
    check_file(path)
    frames = _read(Path(path))
    read_from(frames, path, keep=True)
    return frames


def write_structures(path: str | Path, structures: Iterable[Atoms]) -> None:
    """Write extended xyz, whole or not at all.

    Args:
        path: The file.
        structures: The structures; positions (Å) and forces (eV/Å) keep 12 digits.
    """
    text = io.StringIO()
    ase.io.write(text, [_writable(x) for x in structures], format="extxyz", vec_cell=False)
    write_text(path, text.getvalue())


def _writable(atoms: Atoms) -> Atoms:
    """Return a structure whose words ASE writes so that it reads them again as they are."""
    out = copy.copy(atoms)
    out.info = {escaped(k): escaped(v) if isinstance(v, str) else v for k, v in atoms.info.items()}
    return out


def bare(atoms: Atoms) -> Atoms:
    """Return the structure alone: elements, positions, cell, and total charge and spin.

    No labels, no other info and no calculator.

    Args:
        atoms: The structure, which is left as it is.
    """
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.info = {key: atoms.info[key] for key in (CHARGE, SPIN) if key in atoms.info}
    return out


def composition(structures: list[Atoms], numbers: list[int]) -> np.ndarray:
    """Return the counts of each element, [n_structures, n_elements].

    Args:
        structures: The structures.
        numbers: The atomic numbers of the columns.
    """
    counts = [Counter(atoms.numbers.tolist()) for atoms in structures]
    return np.array([[c[z] for z in numbers] for c in counts], dtype=float)


def formula_of(atoms: Atoms) -> str:
    """Return the chemical formula of a structure.

    Args:
        atoms: The structure.
    """
    return _formula(atoms.numbers.tobytes(), atoms.numbers.dtype.str)


@lru_cache(maxsize=4096)
def _formula(numbers: bytes, dtype: str) -> str:
    """Return the formula of atomic numbers; most files have few."""
    return str(Atoms(np.frombuffer(numbers, dtype)).symbols.formula.format("hill"))


def type_of(atoms: Atoms) -> str:
    """Return the config_type of a structure, "Default" without one.

    Args:
        atoms: The structure.
    """
    return str(atoms.info.get("config_type", "Default"))


def elements_of(structures: Iterable[Atoms]) -> list[int]:
    """Return the atomic numbers that occur, sorted.

    Args:
        structures: The structures.
    """
    return sorted({int(z) for atoms in structures for z in atoms.numbers})


def _read(path: Path, labelled: bool = False) -> list[Atoms]:
    """Return every frame of a file; of extended xyz never fewer than `lora.files.xyz` finds.

    Raises UserError: a frame cannot be read, or, of a `labelled` file, has columns without a name.
    """
    name = str(path).encode("utf-8", "backslashreplace").decode()
    if name != str(path) or CONTROL.search(name):
        raise UserError(f"{path}: the name of the file holds a control character; rename it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty")
    if not is_xyz(path):
        return _parse(path, path, None)
    number, gaps = 0, False
    for frame in scan(path):
        number, gaps = number + 1, gaps or frame.gap
        if labelled and frame.unnamed:
            raise UserError(
                f"{path} frame {frame.number}: has {frame.unnamed} columns after the positions and "
                "no Properties in its comment line, which names them; add "
                "Properties=species:S:1:pos:R:3:REF_forces:R:3, with names and numbers of columns"
            )
    source: Path | io.StringIO = path
    if gaps:  # ASE takes the first empty line for the end
        source = io.StringIO("".join(line for frame in scan(path) for line in frame.lines))
    frames = _parse(path, source, "extxyz") if number else []
    if not frames:
        raise UserError(f"{path}: holds no structures")
    if len(frames) != number:
        raise UserError(f"{path}: holds {number} frames, of which ASE reads {len(frames)}")
    return frames


def _parse(path: Path, source: Path | io.StringIO, form: str | None) -> list[Atoms]:
    """Return what ASE reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = _by_ase(source, form)
    except Exception as error:
        if out_of_memory(error):
            raise
        why, where = error, str(path)
        if form:
            why, where = _first_wrong(path) or (error, where)
        raise UserError(f"{where}: cannot be read as extended xyz ({_in_words(why)})") from None
    if not frames:
        raise UserError(f"{path}: holds no structures")
    return frames


def _by_ase(source: Path | io.StringIO, form: str | None) -> list[Atoms]:
    """Return the structures of a file, or of a text, of a format of ASE."""
    own: dict[str, Any] = {"properties_parser": values_of} if form else {}
    found = ase.io.read(source, index=":", format=form, do_not_split_by_at_sign=True, **own)
    return list(found)


def _first_wrong(path: Path) -> tuple[Exception, str] | None:
    """Return why ASE cannot read the first frame that it cannot, and which it is."""
    for frame in scan(path):
        try:
            _by_ase(io.StringIO("".join(frame.lines)), "extxyz")
        except Exception as error:
            return error, f"{path} frame {frame.number} (line {frame.line})"
    return None


def _in_words(error: Exception) -> str:
    """Return the first line of an error of ASE."""
    said = str(error).strip()
    if isinstance(error, KeyError):
        return f"{said[:SHOWN]} is no element"
    return said.splitlines()[0] if said else type(error).__name__


def values_of(line: str) -> dict[str, Any]:
    """Return the keys and values of a comment line as ASE reads them.

    What only Python reads as a number, `1_000` or digits of another script, stays text: it is a
    name, or a slip.

    Args:
        line: The comment line.
    """
    found: dict[str, Any] = key_val_str_to_dict(line)  # type: ignore[no-untyped-call]  # ASE's
    if ODD_NUMBER.search(line):
        for name, text in parse_comment(line).items():
            number = isinstance(found.get(name), (int, float, np.number, np.ndarray))
            if number and ODD_NUMBER.search(text):
                found[name] = text
    return found
