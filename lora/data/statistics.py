"""Root mean squares, spreads, rates, the drift of a run, and distances of pairs of elements."""

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.stats import beta, linregress

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to
Pair = tuple[int, int]  # two atomic numbers, the lower first
NORMAL = 1.4826  # the standard deviation of normal numbers over the median of their sizes


def rms(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the root of the mean square.

    Args:
        values: Numbers of any shape and unit.
        weights: Weights of the squares, of the same shape; by default all are 1.
    """
    return float(np.sqrt(np.average(np.square(values), weights=weights)))


def typical(values: np.ndarray) -> float:
    """Return the RMS that the median size of numbers stands for, which outliers do not widen.

    Args:
        values: Numbers of any shape and unit.
    """
    return float(NORMAL * np.median(np.abs(values)))


def spread(values: np.ndarray) -> float:
    """Return the standard deviation that the median deviation from the median stands for.

    Args:
        values: Numbers of any shape and unit.
    """
    return typical(values - np.median(values))


def rate_below(count: int, n: int, confidence: float = 0.95) -> float:
    """Return what a rate is below, with some confidence, after `count` of `n` trials.

    The upper limit of Clopper and Pearson (doi 10.1093/biomet/26.4.404), on one side: none of 300
    means that fewer than 1.0 % do.

    Args:
        count: How often it happened.
        n: The number of trials.
        confidence: How often such a limit is above the rate.
    """
    return float(beta.ppf(confidence, count + 1, n - count)) if count < n else 1.0


def drift(times: np.ndarray, energies: np.ndarray) -> dict[str, float]:
    """Return the slope of an energy over time, fitted to the means of at most `BLOCKS` blocks.

    Args:
        times: Times [n] (ps), which begin at 0.
        energies: Energies [n].

    Returns:
        {"slope", "standard_error"} in the unit of the energies per ps, and "ps", the length.
    """
    n = min(BLOCKS, len(times))
    parts = list(zip(np.array_split(times, n), np.array_split(energies, n), strict=True))
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
