"""Read labelled structures from extended xyz, check them, and write them with fixed keys.

ASE and numpy only.  Units: energy eV, positions Å, forces eV/Å, stress eV/Å^3, virials eV.
"""

import codecs
import copy
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict, write_xyz

from lora.data.checked import HEAD, checked
from lora.data.free_atoms import is_isolated_atom, mark_free_atom
from lora.data.held import hold
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
from lora.data.origin import Origin, origin_of, set_origin
from lora.data.stored import stored
from lora.errors import UserError, out_of_memory
from lora.files.comment import CONTROL, ODD_NUMBER, SHOWN, escaped, parse_comment
from lora.files.sealed import check_file, whole
from lora.files.stored import is_stored
from lora.files.xyz import is_xyz, scan

__all__ = ["CHARGE", "ENERGY", "FORCES", "SPIN", "STRESS", "VIRIALS", "Keys", "is_isolated_atom"]
log = logging.getLogger(__name__)
SETS = ("train", "valid", "test")


def read_structures(
    path: str | Path, keys: Keys = Keys(), said: list[str] | None = None
) -> Sequence[Atoms]:
    """Read a labelled dataset, check every structure, and give the labels our keys.

    A label that a structure does not have is an absent key.  What is left out is logged.

    Args:
        path: A file of any format of ASE, or MACE's own (`lora.data.stored`).
        keys: The names of the labels in the file.
        said: A list that what is logged is added to.

    Returns:
        The structures in the order of the file, with its name and their numbers as their origin
        (`lora.data.origin`).  Of many, none is held in memory (`lora.data.held`).

    Raises:
        UserError: One line with file, frame, key, value and remedy.
    """
    dropped: Counter[str] = Counter()
    first: list[str] = []  # the names in frame 0
    labels: set[str] = set()

    def each() -> Iterator[Atoms]:
        for i, atoms in enumerate(_frames(Path(path), keys)):
            first.extend(names_of(atoms) if not i else ())
            made = checked(atoms, keys, Origin(str(path), i), dropped)
            mark_free_atom(made)
            labels.update(x for x in QUANTITIES if x not in labels and has_label(made, x))
            yield made

    found = hold(each())
    for line in _left_out(path, dropped, keys):
        log.warning(line)
        said = [] if said is None else said
        said.append(line)
    if not labels:
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


def load_structures(path: str | Path) -> Sequence[Atoms]:
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

    def each() -> Iterator[Atoms]:
        for i, atoms in enumerate(_frames(Path(path))):
            if not origin_of(atoms):
                set_origin(atoms, Origin(str(path), i))
            yield atoms

    return hold(each())


def write_structures(path: str | Path, structures: Iterable[Atoms]) -> None:
    """Write extended xyz, whole or not at all.

    Args:
        path: The file.
        structures: The structures; positions (Å) and forces (eV/Å) keep 12 digits.
    """
    with whole(path) as handle:
        text = codecs.getwriter("utf-8")(handle)
        write_xyz(text, map(_writable, structures), vec_cell=False)


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


def composition(structures: Iterable[Atoms], numbers: list[int]) -> np.ndarray:
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


def _frames(path: Path, keys: Keys | None = None) -> Iterator[Atoms]:
    """Yield every frame of a file; of extended xyz never fewer than `lora.files.xyz` finds.

    Raises UserError: a frame cannot be read, or, where `keys` name its labels, has columns without
    a name.
    """
    name = str(path).encode("utf-8", "backslashreplace").decode()
    if name != str(path) or CONTROL.search(name):
        raise UserError(f"{path}: the name of the file holds a control character; rename it")
    if is_stored(path):
        found = stored(path, keys or Keys())
    elif not path.is_file():
        raise UserError(f"{path}: no such file")
    elif path.stat().st_size == 0:
        raise UserError(f"{path}: is empty")
    else:
        found = _of_xyz(path, labelled=keys is not None) if is_xyz(path) else _of_other(path)
    first = next(found, None)
    if first is None:
        raise UserError(f"{path}: holds no structures")
    yield first
    yield from found


def _of_xyz(path: Path, labelled: bool) -> Iterator[Atoms]:
    """Yield the frames of an extended xyz file, one at a time: ASE stops at an empty line."""
    for frame in scan(path):
        if labelled and frame.unnamed:
            raise UserError(
                f"{path} frame {frame.number}: has {frame.unnamed} columns after the positions and "
                "no Properties in its comment line, which names them; add "
                "Properties=species:S:1:pos:R:3:REF_forces:R:3, with names and numbers of columns"
            )
        place = f"{path} frame {frame.number} (line {frame.line})"
        found = _by_ase(io.StringIO("".join(frame.lines)), "extxyz", place)
        if len(found) != 1:
            raise UserError(f"{place}: ASE reads {len(found)} frames here")
        yield found[0]


def _of_other(path: Path) -> Iterator[Atoms]:
    """Yield the frames of a file of another format of ASE."""
    yield from _by_ase(path, None, str(path))


def _by_ase(source: Path | io.StringIO, form: str | None, place: str) -> list[Atoms]:
    """Return the structures of a file, or of a text, of a format of ASE."""
    own: dict[str, Any] = {"properties_parser": values_of} if form else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(source, index=":", format=form, do_not_split_by_at_sign=True, **own)
    except Exception as error:
        if out_of_memory(error):
            raise
        why = _in_words(error)
        raise UserError(f"{place}: cannot be read as extended xyz ({why})") from None
    return list(found)


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
