"""Step `e0s`: atomic reference energies for the new level of theory, and the gate.

    e0s/e0s.json

A foundation model and a new dataset rarely share a zero of energy.  The new E0s take that
offset up before training; what is left afterwards is what the fine-tuning has to learn.
"""

import logging
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from lora.data.e0s import fit_e0s, new_e0s
from lora.data.statistics import rms
from lora.data.structures import ENERGY, composition, elements_of, is_isolated_atom, load_structures
from lora.errors import UserError
from lora.files.sealed import write_sealed
from lora.mace.device import set_threads
from lora.mace.elements import check_elements, get_e0s, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict

log = logging.getLogger(__name__)

GATE = 500.0  # meV/atom; a larger initial error means wrong E0s (MACE's guidance)


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
    new = new_e0s(method, symbols, old, estimated, structures, counts, energies, train_file)

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
        "rmse_before_mev_per_atom": rms(before),
        "rmse_after_mev_per_atom": rms(after),
        "gate_mev_per_atom": max_error,
    }
    _say(result)
    write_sealed(out, result)
    _gate(result, stop)
    return result


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
