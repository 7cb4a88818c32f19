"""Recognise positions that are not in Å, by how far neighbours are from each other."""

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from lora.catalogue.findings import Finding, units_of

USUAL = (0.65, 1.5)  # spacings of molecules and crystals, noble gases apart
REACH = 2.5  # of two radii; neighbours farther away are not looked for
CRUSHED = 0.3  # a spacing that no pressure gives; the model would have 50 times the neighbours
CLOSE = 1.6  # factor between a spacing over that of a unit and a usual one


def spacing(structures: Sequence[Atoms]) -> float:
    """Return the median distance of nearest neighbours over the sum of their covalent radii.

    It is near 1 in molecules and crystals.  inf means that most atoms have no neighbour within
    `REACH`.

    Args:
        structures: The structures.
    """
    nearest: list[float] = []
    for atoms in structures:
        radii = covalent_radii[atoms.numbers]
        cutoff = 2 * REACH * float(radii.max())
        i, j, distances = neighbor_list("ijd", atoms, cutoff)  # type: ignore[no-untyped-call]
        own = np.full(len(atoms), math.inf)
        np.minimum.at(own, i, distances / (radii[i] + radii[j]))
        nearest += own.tolist()
    return float(np.median(nearest)) if nearest else 1.0


def position_units(ratio: float) -> list[Finding]:
    """Return the units that positions may have in place of Å, the likeliest first.

    Args:
        ratio: The spacing of structures of at least two atoms, or periodic ones.
    """
    if USUAL[0] < ratio < USUAL[1]:
        return []
    rows = []
    for row in units_of("positions"):
        assert row.factor is not None
        away = abs(math.log(ratio / row.factor)) if math.isfinite(ratio) else 0.0
        if away < math.log(CLOSE) and (math.isfinite(ratio) or row.factor > REACH / USUAL[1]):
            rows.append((away, row))
    return [row for _, row in sorted(rows, key=lambda x: x[0])]


def in_angstrom(atoms: Atoms, row: Finding) -> Atoms:
    """Return a structure whose positions and cell have a unit, in Å.

    Args:
        atoms: The structure.
        row: The unit, of the catalogue.
    """
    assert row.factor is not None
    out: Atoms = atoms.copy()  # type: ignore[no-untyped-call]  # ASE's
    out.cell[:] = atoms.cell.array / row.factor
    out.positions = atoms.positions / row.factor
    return out
