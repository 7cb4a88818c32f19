"""Find the nearest atoms of a structure, across periodic boundaries, too."""

import math
from functools import lru_cache
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

FEW = 200  # points among which all distances are faster than a tree
ALIKE = 1e-9  # Å; rounding of distances


def nearest(atoms: Atoms, cutoff: float) -> tuple[float, int, int, bool]:
    """Return the smallest distance of two atoms or images (Å), and which they are.

    Time and memory grow with the number of atoms alone, however large or flat the cell is.

    Args:
        atoms: The structure; its cell needs vectors along periodic directions only.
        cutoff: Larger distances are not looked for (Å).

    Returns:
        Distance, both atoms, and whether a periodic boundary lies between them; an infinite
        distance where there is none within the cutoff.
    """
    n, own = len(atoms), math.inf
    points, owners = atoms.positions, np.arange(n)
    if atoms.pbc.any():
        cell = reduced(np.ascontiguousarray(atoms.cell.array).tobytes(), atoms.pbc.tobytes())
        own = float(np.linalg.norm(cell[atoms.pbc], axis=1).min())
        points, owners = images_near(atoms, cell, min(own, cutoff))
    distance, first, second = _closest(points, n, cutoff)
    if own <= min(cutoff, distance + ALIKE):  # an atom and its own image
        return own, 0, 0, True
    if not math.isfinite(distance):
        return math.inf, 0, 0, False
    i, j = sorted((first, int(owners[second])))
    apart = float(np.linalg.norm(atoms.positions[i] - atoms.positions[j]))
    return distance, i, j, bool(atoms.pbc.any() and apart > distance + ALIKE)


def _closest(points: np.ndarray, n: int, cutoff: float) -> tuple[float, int, int]:
    """Return the smallest distance between one of the first n points and any other, and both."""
    if len(points) <= FEW:
        apart = cdist(points[:n], points)
        apart[range(n), range(n)] = math.inf
        first, second = divmod(int(apart.argmin()), len(points))
        found = float(apart[first, second])
        return found if found <= cutoff else math.inf, first, second
    order = np.lexsort(points[:n].T)  # a tree of points in one place takes forever
    same = np.flatnonzero((np.diff(points[order], axis=0) == 0).all(axis=1))
    if len(same):
        i, j = sorted(map(int, order[same[0] : same[0] + 2]))
        return 0.0, i, j
    near, which = cKDTree(points).query(points[:n], k=2, distance_upper_bound=cutoff)
    first = int(near[:, 1].argmin())  # the nearest is the point itself, or one in its place
    return float(near[first, 1]), first, int(which[first, int(which[first, 0] == first)])


@lru_cache(maxsize=256)
def reduced(cell: bytes, pbc: bytes) -> np.ndarray:
    """Return the shortest vectors of a lattice, [3, 3] (Å), as rows.

    Along directions that are not periodic they are of length 1, and upright.  Frames of one file
    have few cells, so that each is reduced once.

    Args:
        cell: The bytes of the cell, which needs vectors along periodic directions only.
        pbc: The bytes of what says which directions are periodic.
    """
    vectors = np.frombuffer(cell).reshape(3, 3).copy()
    periodic = np.frombuffer(pbc, bool)
    vectors[~periodic] = 0.0
    if not periodic.all():
        vectors[~periodic] = np.linalg.svd(vectors)[2][int(periodic.sum()) :]
    found: np.ndarray = minkowski_reduce(vectors, periodic)[0]  # type: ignore[no-untyped-call]
    return np.asarray(found)


def images_near(atoms: Atoms, cell: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms inside a cell, and of their images those near its faces; and whose they are.

    Args:
        atoms: The structure.
        cell: The vectors of its lattice, reduced.
        reach: How near images have to be (Å).
    """
    inverse = np.linalg.inv(cell)
    fractions = atoms.positions @ inverse
    fractions[:, atoms.pbc] %= 1.0
    margin = reach * np.linalg.norm(inverse, axis=0)  # 1 / the distance of opposite faces
    most = [math.ceil(x) if p else 0 for x, p in zip(margin, atoms.pbc, strict=True)]
    points, owners = [fractions], [np.arange(len(atoms))]
    for shift in product(*(range(-k, k + 1) for k in most)):
        if any(shift):
            moved = fractions + shift
            inside = (moved > -margin) & (moved < 1 + margin) | ~atoms.pbc
            near = np.flatnonzero(inside.all(axis=1))
            points.append(moved[near])
            owners.append(near)
    return np.concatenate(points) @ cell, np.concatenate(owners)
