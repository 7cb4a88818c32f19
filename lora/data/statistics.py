"""The root of a mean square, and the drift of a run."""

import numpy as np
from scipy.stats import linregress

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to


def rms(values: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def drift(times: np.ndarray, energies: np.ndarray) -> dict[str, float]:
    """Slope of energies [n] over times [n] (ps), fitted to the means of blocks, and its error."""
    parts = list(zip(np.array_split(times, BLOCKS), np.array_split(energies, BLOCKS), strict=True))
    fit = linregress([t.mean() for t, _ in parts], [e.mean() for _, e in parts])
    return {"slope": float(fit.slope), "standard_error": float(fit.stderr), "ps": float(times[-1])}
