"""Tell kinds of structures apart: molecules, slabs, crystals, of these or those elements."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

VACUUM = 6.0  # Å without atoms between periodic images, from which they do not count as neighbours
SEVERAL = 3  # structures far off that make a strange kind


def kind_of(atoms: Atoms) -> str:
    """Return molecule, box (a periodic cell with vacuum on all sides), slab or crystal.

    Args:
        atoms: The structure.
    """
    if not atoms.pbc.any():
        return "molecule"
    if atoms.cell.rank < 3:
        return "slab"
    heights = 1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)  # Å, of the cell
    places = np.sort(atoms.get_scaled_positions(), axis=0)  # type: ignore[no-untyped-call]
    gaps = np.diff(places, axis=0, append=places[:1] + 1).max(axis=0) * heights
    apart = ~atoms.pbc | (gaps > VACUUM)
    return "box" if apart.all() else "slab" if apart.any() else "crystal"


def in_words(atoms: Atoms) -> str:
    """Return what a structure is in words: "Cu O, slab, config_type hot".

    Args:
        atoms: The structure.
    """
    symbols = " ".join(chemical_symbols[z] for z in sorted({*atoms.numbers.tolist()}))
    name = str(atoms.info.get("config_type", ""))
    return f"{symbols}, {kind_of(atoms)}" + (f", config_type {name}" if name else "")


def strange_kinds(kinds: Sequence[str], far: Sequence[bool]) -> dict[str, tuple[int, int]]:
    """Return the kinds that a model does not describe: {kind: (structures far off, all)}.

    Most structures of each are far off, and none of another kind is; {} otherwise.

    Args:
        kinds: The kind of each structure.
        far: Whether it is far off.
    """
    every, off = Counter(kinds), Counter(k for k, x in zip(kinds, far, strict=True) if x)
    told = {kind: (n, every[kind]) for kind, n in off.items()}
    most = all(n >= SEVERAL and 2 * n > total for n, total in told.values())
    return told if most and len(every) > len(told) else {}


def say_kinds(kinds: dict[str, tuple[int, int]]) -> str:
    """Return strange kinds in words, "Cu, molecule: 6 of 6".

    Args:
        kinds: What `strange_kinds` returned.
    """
    return ", ".join(f"{kind}: {n} of {total}" for kind, (n, total) in kinds.items())
