"""Bounds of force errors that hold as often as they say: split conformal prediction.

A score of each atom, whatever it is made of, becomes a bound in eV/Å by one factor, which a
validation set gives: the quantile of |error| / score.  Of a new structure of the same kind about
the nominal share of force components is then, on average, within their bounds (Angelopoulos and
Bates, arXiv 2107.07511).

The quantile of n exchangeable numbers is the ceil((n + 1) coverage)-th smallest.  Force components
of one structure are correlated, so that they are worth fewer: each structure has the weight 1,
shared by its components, and n is their effective number, which how structures differ tells.  It
is the number of structures where all components of each are off alike, and that of components
where they are independent.  For one number a structure, its largest error, the coverage is exact,
however errors are distributed; for components it is an approximation.

Of a set of another kind nothing is promised: there the coverage is measured, with an interval.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

SLACK = 0.03  # how far below the nominal coverage the end of an interval may lie
CONFIDENCE = 0.95  # of intervals
TINY = 1e-12  # a score of zero would bound an error by zero


@dataclass(frozen=True)
class Bound:
    """How many eV/Å stand for a score of 1.

    Attributes:
        coverage: The share that the bounds are made to hold for.
        component: For the error of a force component: times the score of its atom.
        structure: For the largest error of a structure's force components: times the largest
            score of its atoms.
        n_structures: On how many structures it was calibrated.
    """

    coverage: float
    component: float
    structure: float
    n_structures: int


@dataclass(frozen=True)
class Share:
    """A share of what lies within its bounds, with a 95 % interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Return it in percent: "90.4 % (88.1 to 92.3)"."""
        value, low, high = (100 * x for x in (self.value, self.low, self.high))
        return f"{value:.1f} % ({low:.1f} to {high:.1f})"


@dataclass(frozen=True)
class Covered:
    """How bounds hold on a set that they were not calibrated on.

    Attributes:
        components: The share of force components within their bounds.
        structures: The share of structures whose largest force error is within its bound.
        median: The median bound of a force component (eV/Å).
        largest: The largest bound of the largest force error of a structure (eV/Å).
        n_structures: The number of structures with forces.
    """

    components: Share
    structures: Share
    median: float
    largest: float
    n_structures: int

    def holds(self, coverage: float) -> bool:
        """Return True where the bounds of components may be called an uncertainty.

        Args:
            coverage: The nominal one, which the interval must reach but for 3 %.
        """
        return self.components.low >= coverage - SLACK


def least(coverage: float) -> int:
    """Return the smallest number of structures on which bounds can be calibrated.

    Args:
        coverage: The share that they are made to hold for.
    """
    return int(np.ceil(np.round(coverage / (1 - coverage), 9)))


def calibrate(table: pd.DataFrame, coverage: float) -> Bound:
    """Return the bounds that a calibration set gives.

    Args:
        table: A row a force component: structure (its number), score (of its atom) and error (its
            size, eV/Å).
        coverage: The share that the bounds are to hold for.

    Raises:
        ValueError: There are fewer than `least` structures.
    """
    ratios, whose = (table["error"] / _positive(table["score"])).to_numpy(), table["structure"]
    whole = _whole(table)
    return Bound(
        coverage,
        quantile(ratios, whose.to_numpy(), coverage),
        quantile((whole["error"] / whole["score"]).to_numpy(), np.arange(len(whole)), coverage),
        len(whole),
    )


def quantile(ratios: np.ndarray, structures: np.ndarray, coverage: float) -> float:
    """Return the conformal quantile of ratios, with structures as units.

    Args:
        ratios: Ratios [n].
        structures: The structure [n] that each is of.
        coverage: The share of ratios of a new structure that are not to exceed it.

    Raises:
        ValueError: There are fewer than `least` structures.
    """
    _, place, counts = np.unique(structures, return_inverse=True, return_counts=True)
    if len(counts) < least(coverage):
        raise ValueError(f"{len(counts)} structures, and {least(coverage)} are needed")
    order = np.argsort(ratios)
    total = np.cumsum(1.0 / (len(counts) * counts[place][order]))  # the share up to each ratio
    plain = ratios[order][_first(total, coverage)]
    within = np.bincount(place, ratios <= plain) / counts
    n = effective(within, len(ratios), ddof=0)
    return float(ratios[order][_first(total, coverage * (n + 1) / n)])


def _first(total: np.ndarray, share: float) -> int:
    """Return the place of the first number up to which there is a share, but for rounding."""
    return min(int(np.searchsorted(total, share - 1e-9)), len(total) - 1)


def effective(of_each: np.ndarray, n: int, ddof: int) -> float:
    """Return how many independent components have the variance that structures show.

    Args:
        of_each: The share of each structure, at least one.
        n: The number of components of all structures.
        ddof: As for `numpy.var`; with 0 it is never below the number of structures.
    """
    value, m = of_each.mean(), len(of_each)
    variance = of_each.var(ddof=ddof) / m if m > ddof else 0.0
    if value in (0.0, 1.0):
        return float(m)  # no structure differs, and that says nothing of how they vary
    return float(min(value * (1 - value) / variance, n)) if variance > 0 else float(n)


def measure(table: pd.DataFrame, bound: Bound) -> Covered:
    """Return how bounds hold on a set.

    Args:
        table: As for `calibrate`.
        bound: What that returned, of another set.
    """
    bounds = bound.component * _positive(table["score"])
    within = (table["error"] <= bounds).groupby(table["structure"], sort=False).mean()
    whole = _whole(table)
    of_whole = bound.structure * whole["score"]
    inside = (whole["error"] <= of_whole).to_numpy()
    return Covered(
        share(within.to_numpy(), len(table)),
        share(inside.astype(float), len(whole)),
        float(bounds.median()),
        float(of_whole.max()),
        len(whole),
    )


def share(of_each: np.ndarray, n: int) -> Share:
    """Return the mean share of structures, with its interval.

    The interval is Wilson's for the number of independent components that have the variance which
    is seen between structures, corrected for how few structures there are (Korn and Graubard,
    Survey Methodology 24, 193, 1998).

    Args:
        of_each: The share of each structure, at least one.
        n: The number of components of all structures.
    """
    value, m = float(of_each.mean()), len(of_each)
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    count = float(m)  # where one stands alone, or all are alike
    if m > 1 and 0 < value < 1:
        few = z / float(t.ppf((1 + CONFIDENCE) / 2, m - 1))
        count = effective(of_each, n, ddof=1) * few**2
    middle = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(value * (1 - value) / count + (z / (2 * count)) ** 2)
    return Share(value, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the largest error and the largest score of each structure."""
    whole = table.groupby("structure", sort=False)[["error", "score"]].max()
    return whole.assign(score=_positive(whole["score"]))


def _positive(scores: pd.Series) -> pd.Series:
    return scores.clip(lower=TINY)
