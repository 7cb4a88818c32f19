"""The fingerprint of a geometry: distances that no rotation, permutation or cell changes."""

from functools import lru_cache
from itertools import product

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from lora.data.near import images_near, reduced

N_IMAGES = 7  # shortest vectors of a lattice
N_QUANTILES = 64  # of the sorted distances
LARGE = 500  # atoms, from which on an atom's nearest neighbours stand for all pairs
NEIGHBOURS = 8
TAIL = 24  # shortest and longest distances to neighbours, each; their middle is much alike
BLOCK = 2_000_000  # distances that are computed at a time


def fingerprint(atoms: Atoms) -> np.ndarray:
    """Return distances of a structure (Å) that are equal where it is the same.

    They are the sorted interatomic distances (minimum image) at fixed quantiles, of structures of
    more than `LARGE` atoms those to the `NEIGHBOURS` nearest neighbours, and the distances of an
    atom to its periodic images.

    Args:
        atoms: The structure; its cell needs vectors along periodic directions only.
    """
    n = len(atoms)
    cell = np.ascontiguousarray(atoms.cell.array).tobytes()
    images = _images(cell, atoms.pbc.tobytes())
    if n > LARGE:
        distances = np.sort(_to_neighbours(atoms))
        inside = np.linspace(TAIL, len(distances) - TAIL - 1, N_QUANTILES - 2 * TAIL)
        at = np.r_[:TAIL, inside.round().astype(int), -TAIL:0]
        return np.concatenate([distances[at], images])
    distances = _all_distances(atoms) if n > 1 else np.zeros(1)
    at = np.linspace(0, len(distances) - 1, N_QUANTILES).round().astype(int)
    distances.partition(at)
    return np.concatenate([distances[at], images])


def _all_distances(atoms: Atoms) -> np.ndarray:
    """Return the distances of all pairs by their nearest images, [n (n - 1) / 2] (Å)."""
    if not atoms.pbc.any():
        return np.asarray(pdist(atoms.positions))
    n, periodic = len(atoms), atoms.pbc
    cell = reduced(np.ascontiguousarray(atoms.cell.array).tobytes(), periodic.tobytes())
    fractions = atoms.positions @ np.linalg.inv(cell)
    vectors = cell[periodic]
    upright = np.allclose(vectors @ vectors.T, np.diag((vectors**2).sum(axis=1)), rtol=0)
    steps = [x for x in product((-1, 0, 1), repeat=len(vectors)) if x > (0,) * len(vectors)]
    shifts = np.array(steps) @ vectors  # one of each shift and its opposite
    found, rows = [], max(1, BLOCK // (n * (1 if upright else len(shifts))))
    for start in range(0, n - 1, rows):
        first, second = np.triu_indices(min(rows, n - start), 1, n - start)
        apart = fractions[start + second] - fractions[start + first]
        apart[:, periodic] -= np.round(apart[:, periodic])
        moved = apart @ cell
        squares = (moved**2).sum(axis=1)
        if not upright:
            nearer = (shifts**2).sum(axis=1) - 2 * np.abs(moved @ shifts.T)
            squares += np.minimum(nearer.min(axis=1), 0)
        found.append(np.sqrt(np.maximum(squares, 0)))
    return np.concatenate(found)


def _to_neighbours(atoms: Atoms) -> np.ndarray:
    """Return the distances of every atom to its `NEIGHBOURS` nearest neighbours (Å)."""
    k = NEIGHBOURS + 1  # the nearest is the atom itself
    if not atoms.pbc.any():
        return np.asarray(cKDTree(atoms.positions).query(atoms.positions, k)[0])[:, 1:].ravel()
    cell = reduced(np.ascontiguousarray(atoms.cell.array).tobytes(), atoms.pbc.tobytes())
    reach, far = 2.0, float(np.linalg.norm(cell, axis=1).sum())
    while True:
        points, _ = images_near(atoms, cell, reach)
        found = cKDTree(points).query(points[: len(atoms)], k, distance_upper_bound=reach)[0]
        if np.isfinite(found).all() or reach > far:
            return np.where(np.isfinite(found), found, reach)[:, 1:].ravel()
        reach *= 1.5


@lru_cache(maxsize=256)
def _images(cell: bytes, pbc: bytes) -> np.ndarray:
    """Return distances of an atom to its periodic images (Å) that no choice of the cell changes.

    They are the lengths of the Minkowski-reduced cell, the shortest of all vectors of the lattice,
    and the root of the length, area or volume that repeats.
    """
    vectors = reduced(cell, pbc)[np.frombuffer(pbc, bool)]
    n = len(vectors)
    if n == 0:
        return np.empty(0)
    steps = np.array([x for x in product(range(-2, 3), repeat=n) if x > (0,) * n])
    shortest = np.sort(np.linalg.norm(steps @ vectors, axis=1))[:N_IMAGES]
    size = np.sqrt(np.linalg.det(vectors @ vectors.T)) ** (1 / n)
    return np.concatenate([np.sort(np.linalg.norm(vectors, axis=1)), shortest, [size]])
