"""Choose E0s of a new level of theory: by least squares, from free atoms, or as given."""

import logging
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from lora.data.priors import FOUNDATION, FREE, Evidence, Priors, choose_priors
from lora.data.statistics import spread
from lora.errors import UserError
from lora.plan.config_data import E0S

log = logging.getLogger(__name__)
FIT, GIVEN = "fit", "given"  # where E0s are from, beside the priors
QUIET = 1e-3  # eV/atom; no foundation model agrees better with another level of theory
OPEN = 1e-6  # of an element that lies in open directions, by the square of its share


@dataclass(frozen=True)
class Chosen:
    """E0s, and where they are from.

    Attributes:
        values: The E0s (eV), [n_elements].
        rank: The number of E0s, or of combinations of them, that the compositions determine; at
            most the number of elements that are bonded.
        sources: Of each element FIT, GIVEN or a source of priors.  An E0 that is open to the fit
            has the source of the prior that it is nearest to.
        prior: The priors of the fit where it leaves E0s open; None where they play no part.
    """

    values: np.ndarray
    rank: int
    sources: list[str]
    prior: Priors | None = None


def fit_e0s(
    counts: np.ndarray, energies: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Fit energies to element counts by weighted least squares.

    Where the rank is lower than n_elements, the data leave directions open (structures of one
    formula leave all but one).  Of all best fits this is the smallest, so that nothing moves in
    an open direction.

    Args:
        counts: The atoms of each element, [n_structures, n_elements].
        energies: The energies that the elements have to account for (eV), [n_structures].
        weights: The weights of squared errors, [n_structures]; by default all are 1.

    Returns:
        The shift of each element (eV), [n_elements], and the rank of the counts.
    """
    rows = np.ones(len(counts)) if weights is None else np.sqrt(weights)
    shifts, _, rank, _ = np.linalg.lstsq(rows[:, None] * counts, rows * energies, rcond=None)
    return shifts, int(rank)


def fit_nearest(evidence: Evidence) -> Chosen:
    """Fit E0s by least squares; where the compositions leave them open, stay near priors.

    With N the counts, W the weights, E the energies without interactions, p the priors and S their
    scales (diagonal), of all E0s that fit best these change the priors least, in units of the
    scales:

        E0 = p + S pinv(W^1/2 N S) W^1/2 (E - N p)

    A direction counts as open, too, where the noise of the energies makes its fit less certain
    than the prior: where the noise over the singular value of W^1/2 N S exceeds 1 scale, or as many
    as the priors turn out to be off in the direction that is determined best.

    Args:
        evidence: What the E0s are chosen from.

    Returns:
        The E0s; those of `estimated` where the compositions determine all.
    """
    shifts, _ = fit_e0s(evidence.counts, evidence.errors, evidence.weights)
    prior, rows = choose_priors(evidence), np.sqrt(evidence.weights)
    scaled = rows[:, None] * evidence.counts * prior.scales
    u, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
    left = rows * (evidence.atomic - evidence.counts @ prior.energies)
    rounding = np.finfo(float).eps * max(scaled.shape) * sizes.max(initial=0)
    along = (u.T @ left) / np.maximum(sizes, rounding)  # in scales, [n_directions]
    off = max(1.0, float(np.abs(along[:1]).max(initial=0)))
    kept = (sizes > rounding) & (sizes * off > _noise(evidence, shifts))
    rank = int(kept.sum())
    values = prior.energies + prior.scales * (directions[kept].T @ along[kept])
    fitted = 1 - (directions[kept] ** 2).sum(axis=0) < OPEN
    if rank == evidence.bonded.sum():  # as `estimated`, to the last digit
        values = np.where(fitted, evidence.old + shifts, values)
    sources = [FIT if x else s for x, s in zip(fitted, prior.sources, strict=True)]
    return Chosen(values, rank, sources, None if all(fitted) else prior)


def _noise(evidence: Evidence, shifts: np.ndarray) -> float:
    """Return the noise of the weighted energies (eV): what shifts that fit best leave of them."""
    if not len(evidence.energies):
        return 0.0
    rows = np.sqrt(evidence.weights)
    left = rows * (evidence.errors - evidence.counts @ shifts)
    return max(spread(left), QUIET * float(np.median(rows * evidence.n_atoms)))


def new_e0s(method: str | dict[str, float], evidence: Evidence) -> Chosen:
    """Return the E0s of the new level of theory.

    Args:
        method: A name of `lora.plan.config_data.E0S`, or the values themselves, {symbol: eV}.
        evidence: What they are chosen from.

    Raises:
        UserError: The method is not known, or values of elements are missing.
    """
    if method == "auto":
        return fit_nearest(evidence)
    shifts, rank = fit_e0s(evidence.counts, evidence.errors, evidence.weights)
    fitted = [FIT if x else FOUNDATION for x in evidence.bonded]
    if method == "estimated":
        return Chosen(evidence.old + shifts, rank, fitted)
    if method == "foundation":
        return Chosen(evidence.old, rank, [FOUNDATION] * len(fitted))
    if method == "average":
        log.warning(
            "e0s: average fits total energies instead of differences from the foundation model, "
            "which makes initial errors and MD worse (arXiv 2606.12704: 3.13 against 0.33 eV); "
            "auto is better"
        )
        totals, _ = fit_e0s(evidence.counts, evidence.energies, evidence.weights)
        return Chosen(totals, rank, [FIT] * len(fitted))
    values = _known(method, evidence)
    return Chosen(values, rank, [FREE if method == "isolated" else GIVEN] * len(fitted))


def _known(method: str | dict[str, float], evidence: Evidence) -> np.ndarray:
    """Return E0s (eV), [n_elements], of free atoms or as the user gives them.

    Raises UserError: values are missing, or the method is not known.
    """
    if method == "isolated":
        given = evidence.free
        what = (
            "e0s: isolated needs one structure for each free atom (config_type=IsolatedAtom) "
            f"in {evidence.path} or in e0s.isolated_file"
        )
    elif isinstance(method, dict):
        given, what = method, "e0s: the explicit values"
        for symbol in given:
            if symbol not in atomic_numbers:
                raise UserError(f"e0s: {symbol} is not a chemical symbol")
    else:
        raise UserError(f"e0s: {method!r} is not one of {', '.join(E0S)} or a mapping of values")
    missing = [s for s in evidence.symbols if s not in given]
    if missing:
        raise UserError(f"{what}; missing: {', '.join(missing)}")
    return np.array([given[s] for s in evidence.symbols], dtype=float)
