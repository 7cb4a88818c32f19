"""Tell molecules, molecules in a box, slabs and crystals."""

import numpy as np
from ase import Atoms

VACUUM = 6.0  # Å without atoms between periodic images, from which they do not count as neighbours


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
