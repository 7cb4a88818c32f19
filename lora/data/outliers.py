"""Find energies that no E0s explain: single frames far off what all others agree on."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from lora.data.e0s import fit_e0s
from lora.data.priors import Evidence
from lora.data.statistics import rms, spread

FAR = 10.0  # spreads of the errors
EXACT = 1e-3  # eV/atom; errors below count squared, those above by their size


@dataclass(frozen=True)
class SecondLook:
    """A fit that single frames do not bend.

    Attributes:
        errors: What it leaves of each energy (meV/atom), [n_structures].
        far: True for the frames that are far off, [n_structures].
        moved: How far those frames move what least squares fit to any energy (meV/atom).
        rmse: What least squares without those frames leave of the others (meV/atom).
    """

    errors: np.ndarray
    far: np.ndarray
    moved: float
    rmse: float


def second_look(evidence: Evidence, least: float) -> SecondLook:
    """Fit E0s by least absolute errors an atom, and find the frames that are far off.

    Absolute errors, as a median, follow the majority: a frame that is far off counts no more than
    one that is a little off.  Far off is an error of more than `FAR` spreads and of more than
    `least`.

    Args:
        evidence: What E0s are chosen from; at least one structure.
        least: The smallest error that counts (meV/atom).
    """
    counts, left, weights = evidence.counts, evidence.errors, evidence.weights
    scale = np.sqrt(weights / weights.mean()) / evidence.n_atoms
    rows, goal = scale[:, None] * counts, scale * left
    first, _ = fit_e0s(counts, left, weights)
    robust = least_squares(
        lambda shifts: rows @ shifts - goal, first, lambda _: rows, loss="soft_l1", f_scale=EXACT
    )
    errors = 1e3 * (left - counts @ robust.x) / evidence.n_atoms
    far = np.abs(errors - np.median(errors)) > max(FAR * spread(errors), least)
    again, _ = fit_e0s(counts[~far], left[~far], weights[~far])
    moved = 1e3 * np.abs(counts @ (again - first)) / evidence.n_atoms
    others = 1e3 * (left - counts @ again)[~far] / evidence.n_atoms[~far]
    return SecondLook(errors, far, float(moved.max()), rms(others, weights[~far]))
