"""The root of a mean square, a spread that outliers do not widen, and the drift of a run."""

import numpy as np
from scipy.stats import linregress

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to
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
