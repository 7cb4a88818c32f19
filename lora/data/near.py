"""Find the nearest atoms of a structure, across periodic boundaries, too."""

import math

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.spatial import cKDTree


def nearest(atoms: Atoms, cutoff: float) -> tuple[float, int, int]:
    """Return the smallest distance of two atoms or images (Å) and the numbers of the two.

    Args:
        atoms: The structure; its cell needs vectors along periodic directions only.
        cutoff: Larger distances are not looked for (Å).

    Returns:
        Distance and both atoms; infinity, 0 and 0 where there is none within the cutoff.
    """
    if not atoms.pbc.any():
        pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
        i, j = pairs.T
        distances = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    else:
        i, j, distances = neighbor_list("ijd", atoms, cutoff)
    if not len(distances):
        return math.inf, 0, 0
    first = int(distances.argmin())
    return float(distances[first]), int(i[first]), int(j[first])
