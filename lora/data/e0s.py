"""E0s of a new level of theory, by least squares or as given."""

import logging
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from lora.data.structures import ENERGY, is_isolated_atom
from lora.errors import UserError

log = logging.getLogger(__name__)
METHODS = ("estimated", "isolated", "foundation", "average")


def fit_e0s(counts: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, int]:
    """Least squares of energies on element counts, and the rank of the counts.

    Args:
        counts: atoms of each element, [n_structures, n_elements]
        energies: what the elements have to make up for (eV), [n_structures]

    Returns: the shift of each element (eV), [n_elements], and the rank.  Where the rank is
    lower than n_elements the data leave directions open (all structures of one formula leave
    all but one); of all best fits this is the smallest, so what is open is not moved at all.
    """
    shifts, _, rank, _ = np.linalg.lstsq(counts, energies, rcond=None)
    return shifts, int(rank)


def new_e0s(
    method: str | dict[str, float],
    symbols: list[str],
    old: np.ndarray,
    estimated: np.ndarray,
    structures: list[Atoms],
    counts: np.ndarray,
    energies: np.ndarray,
    path: str | Path,
) -> np.ndarray:
    if method == "estimated":
        return old + estimated
    if method == "foundation":
        return old
    if method == "average":
        log.warning(
            "e0s: average fits total energies instead of differences from the foundation model; "
            "initial errors and MD suffer (arXiv 2606.12704: 3.13 against 0.33 eV); use estimated"
        )
        return fit_e0s(counts, energies)[0]
    if method == "isolated":
        given = {
            chemical_symbols[atoms.numbers[0]]: atoms.info[ENERGY]
            for atoms in structures
            if is_isolated_atom(atoms)
        }
        what = f"e0s: isolated needs one structure a free atom (config_type=IsolatedAtom) in {path}"
    elif isinstance(method, dict):
        given, what = method, "e0s: the explicit values"
        for symbol in given:
            if symbol not in atomic_numbers:
                raise UserError(f"e0s: {symbol} is not a chemical symbol")
    else:
        raise UserError(
            f"e0s: {method!r} is not one of {', '.join(METHODS)} or a mapping of values"
        )
    missing = [s for s in symbols if s not in given]
    if missing:
        raise UserError(f"{what}; missing: {', '.join(missing)}")
    return np.array([given[s] for s in symbols], dtype=float)
