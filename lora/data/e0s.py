"""Choose E0s of a new level of theory: by least squares, from free atoms, or as given."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from lora.data.structures import ENERGY, is_isolated_atom
from lora.errors import UserError
from lora.plan.config_data import E0S

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """All that E0s are chosen from.

    Attributes:
        symbols: The chemical symbols [n_elements] of the training set.
        old: The foundation model's E0s (eV), [n_elements].
        counts: The atoms of each element, [n_structures, n_elements], free atoms left out.
        energies: The total energies (eV), [n_structures].
        predicted: The foundation model's total energies (eV), [n_structures].
        structures: All structures of the training set, free atoms included.
        path: The file of the training set, for messages.
    """

    symbols: list[str]
    old: np.ndarray
    counts: np.ndarray
    energies: np.ndarray
    predicted: np.ndarray
    structures: list[Atoms]
    path: str | Path


def fit_e0s(counts: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, int]:
    """Fit energies to element counts by least squares.

    Where the rank is lower than n_elements, the data leave directions open (structures of one
    formula leave all but one).  Of all best fits this is the smallest, so that nothing moves in
    an open direction.

    Args:
        counts: The atoms of each element, [n_structures, n_elements].
        energies: The energies that the elements have to account for (eV), [n_structures].

    Returns:
        The shift of each element (eV), [n_elements], and the rank of the counts.
    """
    shifts, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    return shifts, int(rank)


def new_e0s(method: str | dict[str, float], evidence: Evidence) -> tuple[np.ndarray, int]:
    """Return the E0s of the new level of theory.

    Args:
        method: A name of `lora.plan.config_data.E0S`, or the values themselves, {symbol: eV}.
        evidence: What they are chosen from.

    Returns:
        The E0s (eV), [n_elements], and the rank of the fit of `estimated`.

    Raises:
        UserError: The method is not known, or values of elements are missing.
    """
    estimated, rank = fit_e0s(evidence.counts, evidence.energies - evidence.predicted)
    if method == "estimated":
        return evidence.old + estimated, rank
    if method == "foundation":
        return evidence.old, rank
    if method == "average":
        log.warning(
            "e0s: average fits total energies instead of differences from the foundation model, "
            "which makes initial errors and MD worse (arXiv 2606.12704: 3.13 against 0.33 eV); "
            "estimated is better"
        )
        return fit_e0s(evidence.counts, evidence.energies)[0], rank
    if method == "isolated":
        given = _of_free_atoms(evidence.structures)
        what = (
            "e0s: isolated needs one structure for each free atom (config_type=IsolatedAtom) "
            f"in {evidence.path}"
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
    return np.array([given[s] for s in evidence.symbols], dtype=float), rank


def _of_free_atoms(structures: list[Atoms]) -> dict[str, float]:
    """Return the energies (eV) of the free atoms among some structures."""
    return {
        chemical_symbols[atoms.numbers[0]]: atoms.info[ENERGY]
        for atoms in structures
        if is_isolated_atom(atoms) and ENERGY in atoms.info
    }
