"""Check one structure as it was read, and give its labels our keys."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from lora.data.labels import (
    CHARGE,
    ENERGY,
    FORCES,
    NAMES,
    SPIN,
    STRESS,
    VIRIALS,
    WEIGHTS,
    Keys,
    has_volume,
)
from lora.data.near import nearest
from lora.data.origin import Origin, set_origin
from lora.errors import UserError
from lora.files.comment import CONTROL
from lora.plan.words import shown

# larger than any calculation gives, so that the unit must be another one
MOST_ENERGY = 1e7  # eV/atom; the electrons of the heaviest element have less
MOST_FORCE = 1e3  # eV/Å
NEAREST = 0.2  # Å
FARTHEST = 1e5  # Å; from there on positions in float32 are off by more than 0.004
LIGHTEST, HEAVIEST = 1, len(chemical_symbols) - 1
HEAD = "head"  # MACE's key for the head of a structure, which files of users do not choose
OWN = "lora_"  # how the keys begin that this project writes beside the labels


def checked(atoms: Atoms, keys: Keys, origin: Origin, dropped: Counter[str]) -> Atoms:
    """Return a checked copy of a structure with its labels under our keys, and its origin.

    Args:
        atoms: The structure as it was read.
        keys: The names of its labels.
        origin: The file and the frame that it comes from.
        dropped: What was left out so far, counted here: `HEAD` and `STRESS`.

    Raises:
        UserError: One line with file, frame, key, value and remedy.
    """
    where = str(origin)
    check_geometry(atoms, where)
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    taken = {*NAMES.values(), *keys.named().values(), HEAD}
    out.info = {k: v for k, v in _sound(atoms.info, where).items() if k not in taken}
    for name, key in keys.named().items():
        value = _label(atoms, key, where)
        if value is None:
            continue
        numbers = _numbers(value, where, key)
        if name == "energy":
            out.info[ENERGY] = _energy(numbers, len(atoms), where, key)
        elif name == "forces":
            out.arrays[FORCES] = _forces(numbers, len(atoms), where, key)
        elif name in ("stress", "virials"):
            out.info[STRESS if name == "stress" else VIRIALS] = _tensor(numbers, where, key)
        else:
            out.info[CHARGE if name == "total_charge" else SPIN] = _one(numbers, where, key)
    dropped[HEAD] += HEAD in atoms.info
    if STRESS in out.info and not has_volume(out):
        del out.info[STRESS]
        dropped[STRESS] += 1
    for name in WEIGHTS:
        if name in out.info:
            out.info[name] = _weight(_numbers(out.info[name], where, name), where, name)
    set_origin(out, origin)
    return out


def check_geometry(atoms: Atoms, where: str) -> None:
    """Refuse atoms, positions or a cell that no calculation can have used.

    Args:
        atoms: The structure.
        where: File and frame, for messages.

    Raises:
        UserError: What is wrong.
    """
    if len(atoms) == 0:
        raise UserError(f"{where}: holds no atoms; remove it")
    for z in atoms.numbers[(atoms.numbers < LIGHTEST) | (atoms.numbers > HEAVIEST)]:
        name = chemical_symbols[z] if z == 0 else f"of atomic number {z}"
        raise UserError(f"{where}: holds the unknown element {name}")
    for name, values in (("positions", atoms.positions), ("cell", atoms.cell.array)):
        _finite(values, where, name)
        if (size := float(np.abs(values).max())) > FARTHEST:
            raise UserError(
                f"{where}: {name} reaches {size:.0e} Å; give positions in Å, near the origin, or "
                "remove the structure"
            )
    periodic = atoms.cell.array[atoms.pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic, tol=1e-3) < len(periodic):
        raise UserError(
            f"{where}: is periodic but its cell has no vectors of their own along the periodic "
            "directions; set Lattice or pbc"
        )
    distance, i, j, crosses = nearest(atoms, NEAREST)
    if distance < NEAREST:
        across = " across a periodic boundary" if crosses else ""
        raise UserError(
            f"{where}: atoms {i} and {j} are {distance:.2g} Å apart{across}; give positions in Å, "
            "or remove the structure"
        )


def _sound(info: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return what a structure holds beside its geometry, without what no file of ours can hold.

    Left out are keys that are not text, as some formats have them, our own, and values that hold
    nothing.

    Raises UserError: a text holds a character that breaks the line, or the screen.
    """
    found = {k: v for k, v in info.items() if isinstance(k, str) and not k.startswith(OWN)}
    for key, value in found.items():
        if isinstance(value, str) and CONTROL.search(key + value):
            raise UserError(f"{where}: {shown(key)} holds a control character; remove it")
    return {k: v for k, v in found.items() if not _empty(v)}


def _empty(value: object) -> bool:
    """Return True for a value that holds nothing."""
    if isinstance(value, np.ndarray):
        return not value.size
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def _label(atoms: Atoms, key: str, where: str) -> object:
    """Return a label from wherever ASE put it: info, arrays, or the calculator of the frame.

    Raises UserError: it stands in two places.
    """
    if key in atoms.info and key in atoms.arrays:
        raise UserError(
            f"{where}: {key} stands in the comment line and in the columns of the atoms; remove "
            "one of them"
        )
    if key in atoms.info:
        return atoms.info[key]
    if key in atoms.arrays:
        return atoms.arrays[key]
    return getattr(atoms.calc, "results", {}).get(key)


def _energy(energy: np.ndarray, n_atoms: int, where: str, key: str) -> float:
    """Return the total energy (eV); raise UserError where it cannot be one."""
    value = _one(energy, where, key)
    if (per_atom := abs(value) / n_atoms) > MOST_ENERGY:
        raise UserError(
            f"{where}: {key} is {per_atom:.0e} eV an atom in size; give the total energy in eV"
        )
    return value


def _forces(forces: np.ndarray, n_atoms: int, where: str, key: str) -> np.ndarray:
    """Return forces [n_atoms, 3] (eV/Å); raise UserError where they cannot be."""
    if forces.shape != (n_atoms, 3):
        raise UserError(f"{where}: {key} has shape {forces.shape}, not ({n_atoms}, 3)")
    _finite(forces, where, key)
    largest = np.abs(forces).max()
    if largest > MOST_FORCE:
        raise UserError(
            f"{where}: {key} reaches {largest:.0f} eV/Å; give forces in eV/Å, or remove the "
            "structure"
        )
    return forces


def _tensor(values: np.ndarray, where: str, key: str) -> np.ndarray:
    """Return a stress or virials as nine numbers, row by row, from Voigt, 3x3 or nine."""
    if values.size == 6:
        xx, yy, zz, yz, xz, xy = values.reshape(6)
        values = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif values.size != 9:
        raise UserError(f"{where}: {key} holds {values.size} numbers; give 6 (Voigt) or 9 (3x3)")
    _finite(values, where, key)
    return values.reshape(9)


def _one(values: np.ndarray, where: str, key: str) -> float:
    """Return a label of one number."""
    if values.size != 1:
        raise UserError(f"{where}: {key} holds {values.size} numbers, not one")
    _finite(values, where, key)
    return float(values.reshape(-1)[0])


def _weight(values: np.ndarray, where: str, key: str) -> float:
    """Return a weight; raise UserError where it is not a finite number from 0 on."""
    weight = _one(values, where, key)
    if weight < 0:
        raise UserError(f"{where}: {key} is {weight:g}; give a weight of 0 or more")
    return weight


def _numbers(value: object, where: str, key: str) -> np.ndarray:
    """Return a label as floats; raise UserError for texts and truth values."""
    try:
        if np.asarray(value).dtype.kind not in "bUS":  # numpy reads the text 1_000 as a number
            return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pass
    shown = repr(value) if np.asarray(value).size == 1 else "text"
    raise UserError(f"{where}: {key} is {shown}, not a number; correct the file")


def _finite(values: np.ndarray, where: str, key: str) -> None:
    """Raise UserError for values that are not finite."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{where}: {key} holds a number that is not finite; remove the structure or compute it "
            "again"
        )
