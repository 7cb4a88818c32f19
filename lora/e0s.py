"""Step `e0s`: atomic reference energies for the new level of theory, and the gate.

    e0s/e0s.json

A foundation model and a new dataset rarely share a zero of energy.  The new E0s take that
offset up before training; what is left afterwards is what the fine-tuning has to learn.
"""

import logging
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from lora.config import UserError
from lora.data import graphs, predict, set_threads
from lora.elements import check_elements, get_e0s, trim_elements
from lora.files import write_sealed
from lora.foundation import load_foundation
from lora.structures import (
    ENERGY,
    composition,
    elements_of,
    is_isolated_atom,
    load_structures,
)

log = logging.getLogger(__name__)

METHODS = ("estimated", "isolated", "foundation", "average")
GATE = 500.0  # meV/atom; a larger initial error means wrong E0s (MACE's guidance)


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


def e0s(
    train_file: str | Path,
    foundation: str | Path,
    out: str | Path,
    method: str | dict[str, float] = "estimated",
    head: str | None = None,
    max_error: float = GATE,
    stop: bool = True,
    dtype: str = "float64",
    threads: int | None = None,
) -> dict:
    """Choose E0s, measure the foundation model with them on the training set, write e0s.json.

    Args:
        train_file: train.xyz of the split
        foundation: file or name of the foundation model; `head` chooses one of several
        out: the json file to write
        method: a name of METHODS, or explicit values {symbol: eV}
        max_error: the gate (meV/atom): a larger RMSE with the new E0s stops the sweep,
            or only warns if not `stop`

    Returns the contents of the file.

    Raises UserError: an element that the model does not know, isolated atoms missing, or the
    gate.
    """
    import torch

    set_threads(threads)
    base = load_foundation(foundation, head, getattr(torch, dtype))
    structures = load_structures(train_file)
    numbers = elements_of(structures)
    check_elements(base, structures, train_file)
    model = trim_elements(base, numbers)
    bulk = [atoms for atoms in structures if not is_isolated_atom(atoms)]
    symbols = [chemical_symbols[z] for z in numbers]
    old = np.array([get_e0s(model)[s] for s in symbols])

    predicted = predict(model, graphs(bulk, model))["energy"]
    energies = np.array([atoms.info[ENERGY] for atoms in bulk])
    counts = composition(bulk, numbers)
    estimated, rank = fit_e0s(counts, energies - predicted)
    new = _new_e0s(method, symbols, old, estimated, structures, counts, energies, train_file)

    n_atoms = counts.sum(axis=1)
    before = 1e3 * (energies - predicted) / n_atoms
    after = before - 1e3 * (counts @ (new - old)) / n_atoms
    result = {
        "method": method if isinstance(method, str) else "explicit",
        "E0s": dict(zip(symbols, new.tolist(), strict=True)),
        "foundation_E0s": dict(zip(symbols, old.tolist(), strict=True)),
        "correction": dict(zip(symbols, (new - old).tolist(), strict=True)),
        "rank": rank,
        "n_elements": len(numbers),
        "n_structures": len(bulk),
        "rmse_before_mev_per_atom": _rms(before),
        "rmse_after_mev_per_atom": _rms(after),
        "gate_mev_per_atom": max_error,
    }
    _say(result)
    write_sealed(out, result)
    _gate(result, stop)
    return result


def _new_e0s(
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


def _say(result: dict) -> None:
    if result["method"] == "estimated" and result["rank"] < result["n_elements"]:
        log.warning(
            "the compositions of the training set determine %d of %d E0s: the rest stay where the "
            "foundation model has them as far as the fit allows; energies of other compositions "
            "are not to be trusted; `isolated` or more compositions would settle it",
            *(result["rank"], result["n_elements"]),
        )
    for symbol, energy in result["E0s"].items():
        shift = result["correction"][symbol]
        log.info(
            "E0 of %-2s %14.6f eV, %+.6f eV from the foundation model's", symbol, energy, shift
        )
    log.info(
        "RMSE of the foundation model on the training energies: %.1f meV/atom before, %.1f after",
        *(result["rmse_before_mev_per_atom"], result["rmse_after_mev_per_atom"]),
    )


def _gate(result: dict, stop: bool) -> None:
    error, limit = result["rmse_after_mev_per_atom"], result["gate_mev_per_atom"]
    if error <= limit:
        return
    message = (
        f"the foundation model is off by {error:.0f} meV/atom with the new E0s, over the gate of "
        f"{limit:g}: as a rule the E0s are wrong, or the energies are not total energies in eV; "
        f"e0s.method was {result['method']}; to go on, raise e0s.max_error or set e0s.stop: false"
    )
    if stop:
        raise UserError(message)
    log.warning(message)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
