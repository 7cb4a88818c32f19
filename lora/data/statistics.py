"""The root of a mean square, the drift of a run, and the distances of pairs of elements."""

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.stats import linregress

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to
Pair = tuple[int, int]  # two atomic numbers, the lower first


def rms(values: np.ndarray) -> float:
    """Return the root of the mean square.

    Args:
        values: Numbers of any shape and unit.
    """
    return float(np.sqrt(np.mean(np.square(values))))


def drift(times: np.ndarray, energies: np.ndarray) -> dict[str, float]:
    """Return the slope of an energy over time, fitted to the means of `BLOCKS` blocks.

    Args:
        times: Times [n] (ps), which begin at 0.
        energies: Energies [n].

    Returns:
        {"slope", "standard_error"} in the unit of the energies per ps, and "ps", the length.
    """
    parts = list(zip(np.array_split(times, BLOCKS), np.array_split(energies, BLOCKS), strict=True))
    fit = linregress([t.mean() for t, _ in parts], [e.mean() for _, e in parts])
    return {"slope": float(fit.slope), "standard_error": float(fit.stderr), "ps": float(times[-1])}


def pair_ranges(structures: Iterable[Atoms], cutoff: float) -> dict[Pair, tuple[float, float]]:
    """Return the shortest and the longest distance (Å) of each pair of elements.

    Args:
        structures: The structures; periodic images count.
        cutoff: The longest distance that is looked at (Å).

    Returns:
        {(lower, higher atomic number): (shortest, longest)}, without pairs that never occur.
    """
    found: dict[Pair, tuple[float, float]] = {}
    for atoms in structures:
        i, j, distances = neighbor_list("ijd", atoms, cutoff)  # type: ignore[no-untyped-call]
        first, second = np.sort([atoms.numbers[i], atoms.numbers[j]], axis=0)
        for a, b in {*zip(first.tolist(), second.tolist(), strict=True)}:
            own = distances[(first == a) & (second == b)]
            low, high = found.get((a, b), (np.inf, 0.0))
            found[a, b] = (min(low, float(own.min())), max(high, float(own.max())))
    return found
