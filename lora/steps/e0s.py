"""Step `e0s`: atomic reference energies of the new level of theory, and the gate.

    e0s/e0s.json

A foundation model and a new dataset rarely share a zero of energy.  The new E0s take that offset
up before training; what is left afterwards is what the fine-tuning has to learn.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from lora.data.e0s import Evidence, new_e0s
from lora.data.statistics import rms
from lora.data.structures import ENERGY, composition, elements_of, is_isolated_atom, load_structures
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.mace.device import set_threads
from lora.mace.elements import check_elements, get_e0s, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base, Run
from lora.plan.config_data import E0s

log = logging.getLogger(__name__)
_CONFIG = E0s()  # the defaults


@dataclass(frozen=True)
class E0sSettings:
    """How to choose E0s; the fields are the keys of `e0s` in the config.

    Attributes:
        method: A name of `lora.plan.config_data.E0S`, or the values, {symbol: eV}.
        max_error: The gate, the largest RMSE with the new E0s (meV/atom).
        stop: Stop the sweep where the gate is exceeded; False only warns.
        dtype: The precision of the foundation model.
    """

    method: str | dict[str, float] = _CONFIG.method
    max_error: float = _CONFIG.max_error
    stop: bool = _CONFIG.stop
    dtype: str = "float64"


DEFAULTS = E0sSettings()


def e0s(
    train_file: str | Path,
    base: Base,
    out: str | Path,
    settings: E0sSettings = DEFAULTS,
    run: Run = Run(),
) -> dict[str, Any]:
    """Choose E0s, measure the foundation model with them on the training set, write e0s.json.

    Args:
        train_file: train.xyz of the split.
        base: The foundation model.
        out: The JSON file to write where `run` has no receipt.
        settings: How to choose.
        run: Threads, and the receipt to write in place of `out`.

    Returns:
        The content of the file.

    Raises:
        UserError: The model does not know an element, isolated atoms are missing, or the gate is
            exceeded.
    """
    set_threads(run.threads)
    model = load_foundation(base.model, base.head, getattr(torch, settings.dtype))
    evidence = _gather(train_file, model)
    new, rank = new_e0s(settings.method, evidence)
    old, counts, symbols = evidence.old, evidence.counts, evidence.symbols
    n_atoms = counts.sum(axis=1)
    before = 1e3 * (evidence.energies - evidence.predicted) / n_atoms
    after = before - 1e3 * (counts @ (new - old)) / n_atoms
    method = settings.method
    result = {
        "method": method if isinstance(method, str) else "explicit",
        "E0s": dict(zip(symbols, new.tolist(), strict=True)),
        "foundation_E0s": dict(zip(symbols, old.tolist(), strict=True)),
        "correction": dict(zip(symbols, (new - old).tolist(), strict=True)),
        "rank": rank,
        "n_elements": len(symbols),
        "n_structures": len(counts),
        "rmse_before_mev_per_atom": rms(before),
        "rmse_after_mev_per_atom": rms(after),
        "gate_mev_per_atom": settings.max_error,
    }
    _say(result)
    _gate(result, settings.stop)
    (run.receipt or Receipt(Path(out))).write(result)
    return result


def _gather(train_file: str | Path, base: torch.nn.Module) -> Evidence:
    """Return the training set, and the foundation model's energies and E0s for it.

    Raises UserError: an element that the model does not know.
    """
    structures = load_structures(train_file)
    numbers = elements_of(structures)
    check_elements(base, structures, train_file)
    model = trim_elements(base, numbers)
    bulk = [a for a in structures if ENERGY in a.info and not is_isolated_atom(a)]
    symbols = [chemical_symbols[z] for z in numbers]
    return Evidence(
        symbols=symbols,
        old=np.array([get_e0s(model)[s] for s in symbols]),
        counts=composition(bulk, numbers),
        energies=np.array([atoms.info[ENERGY] for atoms in bulk]),
        predicted=predict(model, graphs(bulk, model))["energy"],
        structures=structures,
        path=train_file,
    )


def _say(result: dict[str, Any]) -> None:
    """Log the E0s, the errors, and a warning where the compositions do not determine the E0s."""
    if result["method"] == "estimated" and result["rank"] < result["n_elements"]:
        log.warning(
            "the compositions of the training set determine %d of %d E0s. In the other directions "
            "the E0s stay at the foundation model's values, and energies of other compositions are "
            "not reliable. Add structures of other compositions, or free atoms (e0s.method: "
            "isolated)",
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


def _gate(result: dict[str, Any], stop: bool) -> None:
    """Raise UserError, or warn, where the error with the new E0s exceeds the gate."""
    error, limit = result["rmse_after_mev_per_atom"], result["gate_mev_per_atom"]
    if error <= limit:
        return
    message = (
        f"with the new E0s, the foundation model is off by {error:.0f} meV/atom, over the gate of "
        f"{limit:g}. Usual causes are wrong E0s (e0s.method is {result['method']}) and energies "
        "that are not total energies in eV. To continue, raise e0s.max_error or set e0s.stop: false"
    )
    if stop:
        raise UserError(message)
    log.warning(message)
