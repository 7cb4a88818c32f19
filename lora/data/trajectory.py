"""Tell the frames of a trajectory from structures without an order."""

import warnings
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

PAIRS = 100  # of frames that are compared at each distance
ALIKE = 0.7  # times the change between frames far apart: below, neighbours are alike
FORGOTTEN = 0.9  # times it: from here on, frames have nothing to do with each other


def memory(structures: Sequence[Atoms]) -> int:
    """Return for how many frames neighbours in a file stay alike; 0 where they never are.

    The change between two frames of the same atoms is the root of the mean square displacement,
    without the motion of the whole (of molecules without its rotation, too), by the nearest image
    of crystals.  Where the median change from a frame to
    the next is far smaller than between frames in any order, the file is a trajectory; its memory
    is the shortest distance (a power of 2) at which the change is nearly that of any two frames.

    Args:
        structures: The structures in the order of the file.
    """
    n = len(structures)
    if n < 2:
        return 0
    rng = np.random.default_rng(0)
    far = _median(structures, [tuple(rng.integers(n, size=2)) for _ in range(3 * PAIRS)])
    if far is None:
        return 0
    lag, near = 1, _change_at(structures, 1, rng)
    if near is None or near > ALIKE * far:
        return 0
    while near is not None and near < FORGOTTEN * far:
        lag *= 2
        near = _change_at(structures, lag, rng)
    return lag


def _change_at(structures: Sequence[Atoms], lag: int, rng: np.random.Generator) -> float | None:
    """Return the median change (Å) between frames at a distance; None where there are none."""
    if lag >= len(structures):
        return None
    starts = rng.permutation(len(structures) - lag)[:PAIRS]
    return _median(structures, [(int(i), int(i) + lag) for i in starts])


def _median(structures: Sequence[Atoms], pairs: list[tuple[int, int]]) -> float | None:
    """Return the median change (Å) over pairs of the same atoms; None where there are too few."""
    changes = [
        _change(structures[i], structures[j])
        for i, j in pairs
        if i != j and np.array_equal(structures[i].numbers, structures[j].numbers)
    ]
    return float(np.median(changes)) if len(changes) > min(3, len(structures) - 2) else None


def _change(a: Atoms, b: Atoms) -> float:
    """Return the root of the mean square displacement (Å) between two frames of the same atoms."""
    if not a.pbc.any() and len(a) > 2:
        centred = [x.positions - x.positions.mean(axis=0) for x in (a, b)]
        with warnings.catch_warnings():  # linear molecules have no one rotation; its rest is right
            warnings.simplefilter("ignore", UserWarning)
            return float(Rotation.align_vectors(*centred)[1] / np.sqrt(len(a)))
    moved = b.positions - a.positions
    if a.cell.rank == 3:
        fractions = np.linalg.solve(a.cell.array.T, moved.T).T
        moved = moved - np.where(a.pbc, np.round(fractions), 0) @ a.cell.array
    moved = moved - moved.mean(axis=0)
    return float(np.sqrt((moved**2).sum(axis=1).mean()))
