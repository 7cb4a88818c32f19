"""Find the nearest atoms of a structure, across periodic boundaries, too."""

import math

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree


def nearest(atoms: Atoms, cutoff: float) -> tuple[float, int, int, bool]:
    """Return the smallest distance of two atoms or images (Å), and which they are.

    Args:
        atoms: The structure; its cell needs vectors along periodic directions only.
        cutoff: Larger distances are not looked for (Å).

    Returns:
        Distance, both atoms, and whether a periodic boundary lies between them; an infinite
        distance where there is none within the cutoff.
    """
    if not atoms.pbc.any():
        pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
        i, j = pairs.T
        distances = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
        shifts = np.zeros((len(pairs), 3))
    else:
        i, j, distances, shifts = neighbour_list(
            "ijdS",
            cutoff=cutoff,
            positions=atoms.positions,
            cell=np.array(atoms.cell.complete()),
            pbc=atoms.pbc,
        )
    if not len(distances):
        return math.inf, 0, 0, False
    first = int(distances.argmin())
    return float(distances[first]), int(i[first]), int(j[first]), bool(shifts[first].any())
