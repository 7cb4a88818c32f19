"""Measure what a fine-tuned potential forgot of the foundation model's own level of theory."""

from typing import Any

import numpy as np

from lora.calculators.potential import Potential
from lora.checks.base import NotCheckedError, Sample
from lora.data.statistics import rms
from lora.data.structures import ENERGY, FORCES


def forgetting(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Measure the error on structures of the foundation model's own level of theory.

    Energies are compared without the E0s of either level.

    Args:
        potential: The potential.
        sample: The structures; its holdout is used.

    Returns:
        The force RMSE (meV/Å), and the energy RMSE (meV/atom).

    Raises:
        NotCheckedError: There are no such structures.
    """
    if not sample.holdout:
        raise NotCheckedError("checks.holdout_file is not set")
    energies, forces = potential(sample.holdout)
    n = np.array([len(atoms) for atoms in sample.holdout])
    changed = {s: e - sample.e0s.get(s, e) for s, e in potential.e0s.items()}
    shift = [sum(changed[s] for s in atoms.symbols) for atoms in sample.holdout]
    truth = np.array([atoms.info[ENERGY] for atoms in sample.holdout])
    wrong = (energies - shift - truth) / n
    difference = np.concatenate(forces) - np.concatenate([a.arrays[FORCES] for a in sample.holdout])
    detail = {"rmse_e_mev_per_atom": 1e3 * rms(wrong), "n_structures": len(n)}
    return 1e3 * rms(difference), detail
