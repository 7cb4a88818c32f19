"""What a file of structures holds, before anything is decided: labels, free atoms, kinds, order."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from lora.data.checked import check_geometry
from lora.data.free_atoms import mark_free_atom
from lora.data.kinds import kind_of
from lora.data.labels import NAMES
from lora.data.names import SIZES, meaning
from lora.data.origin import SOURCE_FILE, SOURCE_FRAME
from lora.data.structures import elements_of, formula_of, is_isolated_atom, load_structures, type_of
from lora.data.trajectory import memory
from lora.errors import UserError
from lora.plan.words import shown

NOT_SHOWN = ("numbers", "positions", SOURCE_FILE, SOURCE_FRAME)
SAMPLE = 200  # structures that are looked at where all would take too long
LEAST_GROUPS = 10  # so that every set gets some
# keys of a comment line that number the things that structures were made from
GROUPS: tuple[str, ...] = (
    "group",
    "system",
    "molecule",
    "mol",
    "material",
    "mp",
    "structure",
    "traj",
    "trajectory",
)
GROUPS += ("run", "calculation", "parent")
METHODS: tuple[str, ...] = (
    "dft",
    "qm",
    "pbe",
    "scan",
    "wb97",
    "ccsd",
    "mp2",
    "hf",
    "b3lyp",
    "aims",
    "vasp",
)
METHODS += ("cp2k", "orca", "target", "true", "label")


@dataclass(frozen=True)
class Label:
    """A label that was found.

    Attributes:
        name: Its name in the file.
        frames: The structures that have it, free atoms left out.
        others: Other names that could be it.
        why: Why this one was taken.
    """

    name: str
    frames: int
    others: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Look:
    """What a file holds.

    Attributes:
        path: The file.
        n: The number of structures, free atoms left out.
        free: The symbols of free atoms.
        symbols: The elements.
        formulas: How many structures have each formula.
        atoms: The mean number of atoms.
        labels: What was found, by quantity.
        kinds: How many are a molecule, a molecule in a box, a slab, a crystal (of a sample).
        types: How many structures have each config_type.
        groups: {key: number of groups} of keys that number what structures were made from.
        memory: For how many frames neighbours in the file stay alike; 0 for no trajectory.
    """

    path: Path
    n: int
    free: tuple[str, ...]
    symbols: tuple[str, ...]
    formulas: dict[str, int]
    atoms: float
    labels: dict[str, Label]
    kinds: dict[str, int]
    types: dict[str, int]
    groups: dict[str, int]
    memory: int


def look(path: Path, given: dict[str, str]) -> Look:
    """Look at a file.

    Args:
        path: Structures, of any format of ASE.
        given: Names of labels that the user said, by quantity.

    Raises:
        UserError: It cannot be read, holds free atoms only, or has no energies or no forces.
    """
    frames = load_structures(path)
    for i, atoms in enumerate(frames):
        check_geometry(atoms, f"{path} frame {i}")
        mark_free_atom(atoms)
    free = [x for x in frames if is_isolated_atom(x)]
    found = [x for x in frames if not is_isolated_atom(x)]
    if not found:
        raise UserError(f"{path}: holds free atoms only; name a file of structures to train on")
    some = found[:: max(1, len(found) // SAMPLE)]
    return Look(
        path=path,
        n=len(found),
        free=_symbols(free),
        symbols=_symbols(frames),
        formulas=dict(Counter(map(formula_of, found)).most_common()),
        atoms=sum(len(x) for x in found) / len(found),
        labels=_labels(path, found, given),
        kinds=dict(Counter(kind_of(x) for x in some).most_common()),
        types=dict(Counter(map(type_of, found)).most_common()),
        groups=_groups(found),
        memory=memory([x for x in found if len(x) > 1]),
    )


def _symbols(structures: Iterable[Atoms]) -> tuple[str, ...]:
    """Return the symbols of the elements that occur."""
    return tuple(chemical_symbols[z] for z in elements_of(structures))


def _values(atoms: Atoms) -> dict[str, Any]:
    """Return all that a structure holds besides its geometry, by name."""
    results: dict[str, Any] = getattr(atoms.calc, "results", {})
    held = atoms.info | atoms.arrays | results
    return {k: x for k, x in held.items() if k not in NOT_SHOWN}


def _labels(path: Path, structures: Sequence[Atoms], given: dict[str, str]) -> dict[str, Label]:
    """Return the labels that the structures have.

    Raises:
        UserError: There are no energies, or no forces.
    """
    found: dict[str, Label] = {}
    values = [_values(atoms) for atoms in structures]
    for quantity in NAMES:
        own, names = given.get(quantity), Counter[str]()
        for atoms, held in zip(structures, values, strict=True):
            called = [own] if own else [x for x in held if _named(quantity, x)]
            names.update(x for x in called if x in held and _shaped(quantity, held[x], len(atoms)))
        if names:
            energy = found["energy"].name if "energy" in found else ""
            found[quantity] = _chosen(quantity, names, energy)
        elif quantity in ("energy", "forces"):
            raise UserError(f"{path}: {_why_none(quantity, values[0], own)}")
    return found


def _why_none(quantity: str, held: dict[str, Any], asked: str | None) -> str:
    """Return why there is no energy or no forces, and what to do."""
    unfit = [x for x in held if x == asked or (not asked and _named(quantity, x))]
    if unfit:
        wanted = "three numbers an atom" if quantity == "forces" else "a number"
        value = held[unfit[0]]
        plain = value.item() if isinstance(value, np.generic) else value
        found = f"has the shape {np.shape(value)}" if np.ndim(value) else f"is {shown(plain)}"
        remedy = f"name another by --{quantity}_key" if asked else "correct the file"
        return f"{unfit[0]} {found}, not {wanted}; {remedy}"
    names = f"its keys are {', '.join(held) or 'none'}"
    if not any(np.ndim(x) == 2 for x in held.values()) and quantity == "forces":
        names += "; the comment line of an extended xyz names them in Properties"
    return f"no structure has {asked or quantity}; {names}; name them by --{quantity}_key"


def _named(quantity: str, name: str) -> bool:
    """Return True if a name is one of a label; a gradient has the other sign than forces."""
    return meaning(name) == quantity and "gradient" not in name.lower()


def _shaped(quantity: str, value: Any, n_atoms: int) -> bool:
    """Return True if a value has the shape of a label."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        return False
    if quantity == "forces":
        return numbers.shape == (n_atoms, *SIZES[quantity])
    return numbers.size in SIZES[quantity]


def _chosen(quantity: str, names: Counter[str], energy: str) -> Label:
    """Return the best of some names, with the others."""
    most = max(names.values())
    ranked = sorted(names, key=lambda x: (names[x] < 0.9 * most, _rank(quantity, x, energy), x))
    first, *others = ranked
    why = _RANKS[_rank(quantity, first, energy)]
    if any(_rank(quantity, x, energy) < _rank(quantity, first, energy) for x in others):
        why = "more structures have it"
    return Label(first, names[first], tuple(others), why)


_RANKS = (
    "it is MACE's own name",
    "it goes with the energy",
    "its name says that it is the reference",
    "its name says how it was computed",
    "it is ASE's own name",
    "its name is the plainest",
    "there is no other",
)


def _rank(quantity: str, name: str, energy: str) -> int:
    """Return a place in `_RANKS`, the best first."""
    lower = name.lower()
    if name == NAMES[quantity]:
        return 0
    rest = re.sub("forces?|stress|virials?", "", lower, count=1)
    if energy and lower != quantity and rest == energy.lower().replace("energy", "", 1):
        return 1
    if lower.startswith("ref"):
        return 2
    if any(x in lower for x in METHODS):
        return 3
    if lower == quantity:
        return 4
    return 6 if "free" in lower else 5


def _groups(structures: Sequence[Atoms]) -> dict[str, int]:
    """Return the keys that number groups of structures, with the number of groups."""
    found = {}
    for name in structures[0].info:
        stem = name.lower().removesuffix("id").removesuffix("name").strip("_")
        values = {str(atoms.info.get(name)) for atoms in structures}
        everywhere = all(name in atoms.info for atoms in structures)
        if stem in GROUPS and everywhere and LEAST_GROUPS <= len(values) <= len(structures) / 2:
            found[name] = len(values)
    return found
