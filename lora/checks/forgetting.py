"""Measure what a fine-tuned potential forgot of the foundation model's own level of theory."""

from typing import Any

import numpy as np

from lora.calculators.potential import Potential
from lora.checks.base import NotCheckedError, Sample
from lora.data.labels import reference
from lora.data.statistics import rms


def forgetting(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Measure the error on structures of the foundation model's own level of theory.

    Energies are compared without the E0s of either level.  Labels that structures do not have, or
    give the weight 0, are left out.

    Args:
        potential: The potential.
        sample: The structures; its holdout is used.

    Returns:
        The force RMSE (meV/Å), and the energy RMSE (meV/atom; None without energies).

    Raises:
        NotCheckedError: There are no such structures, or none has forces.
    """
    if not sample.holdout:
        raise NotCheckedError("checks.holdout_file is not set")
    truth = reference(sample.holdout)
    if np.isnan(truth["forces"]).all():
        raise NotCheckedError("no structure of checks.holdout_file has forces")
    energies, forces = potential(sample.holdout)
    changed = {s: e - sample.e0s.get(s, e) for s, e in potential.e0s.items()}
    shift = [sum(changed[s] for s in atoms.symbols) for atoms in sample.holdout]
    wrong = (energies - shift - truth["energy"]) / truth["n_atoms"]
    difference = np.concatenate(forces) - truth["forces"]
    known = wrong[~np.isnan(wrong)]
    detail = {
        "rmse_e_mev_per_atom": 1e3 * rms(known) if len(known) else None,
        "n_structures": len(sample.holdout),
    }
    return 1e3 * rms(difference[~np.isnan(difference)]), detail
