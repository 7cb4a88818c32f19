"""Compare the terms of the losses with the labels that the data have."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from lora.catalogue.methods import LOSS_TERMS
from lora.data.held import joined
from lora.data.labels import ENERGY, NAMES, OTHER, counts, has_volume
from lora.errors import UserError
from lora.plan.settings import TrainSettings

LOST = 0.1  # meV/atom; rounding above is said
log = logging.getLogger(__name__)


def check_terms(
    settings: TrainSettings,
    train: Sequence[Atoms],
    valid: Sequence[Atoms],
    file: str | Path,
    others: Sequence[Atoms] = (),
) -> None:
    """Refuse a loss whose label nobody has, and say which labels are computed or missing.

    Args:
        settings: The settings, with the loss and the weights of its terms.
        train: The training set.
        valid: The validation set.
        file: The file of the training set, for messages.
        others: Structures that are trained on beside it, labelled by the foundation model.

    Raises:
        UserError: No structure that is trained on has a label of the loss, or the validation set
            has none of its labels.
    """
    loss = settings.loss
    for term in settings.needs:
        if not any(counts(atoms, term) for atoms in train):
            also = f" or {OTHER[term]}" if term in OTHER else ""
            raise UserError(
                f"{file}: the loss {loss} needs {term}, and no structure has {term}{also} of a "
                f"weight above 0; set data.{term}_key, or {term}_weight: 0"
            )
    there = [term for term in settings.terms if any(counts(atoms, term) for atoms in train)]
    measured = [term for term in there if any(counts(atoms, term) for atoms in valid)]
    if not measured:
        raise UserError(
            f"{file}: no structure of the validation set has a label of the loss {loss} "
            f"({', '.join(settings.terms)}), so that nothing says which epoch is the best; add some"
        )
    for term in there:
        if term not in measured:
            log.warning("no structure of the validation set has %s: its loss leaves them out", term)
        if term in OTHER:
            _say_computed(term, joined(train, valid))
    if "stress" in LOSS_TERMS[loss] and "stress" not in there and settings.stress_weight:
        _say_no_stress(loss, train, others)


def _say_no_stress(loss: str, train: Sequence[Atoms], others: Sequence[Atoms]) -> None:
    """Say of a loss that no structure of the data has a stress for its term."""
    say = log.warning if any(map(has_volume, train)) else log.info
    if n := sum(counts(atoms, "stress") for atoms in others):
        say(
            "no structure of the data has a stress: the stress term of the loss %s is that of the "
            "%d structures alone that the foundation model labelled",
            *(loss, n),
        )
    else:
        say("no structure has a stress: the stress term of the loss %s is 0", loss)


def say_rounding(structures: Sequence[Atoms], dtype: str) -> None:
    """Warn where energies lose digits that count by being rounded to a dtype.

    Args:
        structures: The structures.
        dtype: The precision of the training: float32 or float64.
    """
    sizes = [abs(a.info[ENERGY]) / len(a) for a in structures if counts(a, "energy")]
    lost = 1e3 * max(sizes, default=0.0) * float(np.finfo(dtype).eps) / 2
    if lost > LOST:
        log.warning(
            "%s rounds energies of %.1e eV/atom by up to %.2g meV/atom; set default_dtype: float64,"
            " or subtract energies of free atoms from the data",
            *(dtype, max(sizes), lost),
        )


def _say_computed(term: str, structures: Sequence[Atoms]) -> None:
    """Say how many labels are computed from others."""
    computed = sum(counts(a, term) and NAMES[term] not in a.info for a in structures)
    if computed:
        how = {"stress": "-virials / volume", "virials": "-stress x volume"}[term]
        log.info("the %s of %d structures are %s (MACE's sign)", term, computed, how)
