"""The root of a mean square, and the drift of a run."""

import numpy as np
from scipy.stats import linregress

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to


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
