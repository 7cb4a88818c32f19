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

from lora.adapters.saved import read_card
from lora.catalogue.methods import EARLIER
from lora.data.e0s import Chosen, new_e0s
from lora.data.e0s_words import Errors, far_off, headline, open_e0s, over_gate
from lora.data.free_atoms import free_energies
from lora.data.held import only
from lora.data.kinds import in_words
from lora.data.labels import ENERGY, Keys, counts, weight_of
from lora.data.origin import where
from lora.data.outliers import second_look
from lora.data.priors import Evidence
from lora.data.statistics import rms, typical
from lora.data.structures import (
    composition,
    elements_of,
    is_isolated_atom,
    load_structures,
    read_structures,
)
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.files.terminal import say
from lora.mace.device import set_threads
from lora.mace.elements import check_elements, get_e0s, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base, Run
from lora.plan.config_data import E0s
from lora.plan.earlier import adapter_at

log = logging.getLogger(__name__)
_CONFIG = E0s()  # the defaults
FAR = 0.2  # of the gate; smaller errors of single frames are not spoken of


@dataclass(frozen=True)
class E0sSettings:
    """How to choose E0s; all fields but `keys` are the keys of `e0s` in the config.

    Attributes:
        method: A name of `lora.plan.config_data.E0S`, or the values, {symbol: eV}.
        isolated_file: Free atoms, for auto and isolated, beside those of the training set.
        max_error: The gate, the largest RMSE with the new E0s (meV/atom).
        stop: Stop the sweep where the gate is exceeded; False only warns.
        keys: The names of the labels in isolated_file.
        adapter: The adapter whose E0s the method adapter takes: its folder, or a file of it.
    """

    method: str | dict[str, float] = _CONFIG.method
    isolated_file: str | None = _CONFIG.isolated_file
    max_error: float = _CONFIG.max_error
    stop: bool = _CONFIG.stop
    keys: Keys = Keys()
    adapter: str | Path | None = None

    @property
    def name(self) -> str:
        """Return the name of the method; explicit where the values are given."""
        return self.method if isinstance(self.method, str) else "explicit"


DEFAULTS = E0sSettings()


def e0s(
    train_file: str | Path,
    base: Base,
    out: str | Path,
    settings: E0sSettings = DEFAULTS,
    run: Run = Run(),
) -> dict[str, Any]:
    """Choose E0s, measure the foundation model with them on the training set, write e0s.json.

    All is computed in float64, whatever trainings compute in: total energies of all-electron codes
    have more digits than float32.

    Args:
        train_file: train.xyz of the split.
        base: The foundation model.
        out: The JSON file to write where `run` has no receipt.
        settings: How to choose.
        run: Threads, and the receipt to write in place of `out`.

    Returns:
        The content of the file.

    Raises:
        UserError: The model does not know an element, free atoms are missing or contradict each
            other, or the gate is exceeded.
    """
    set_threads(run.threads)
    model = load_foundation(base.model, base.head, torch.float64)
    evidence = _gather(train_file, model, settings)
    if unused := [x for x in evidence.free if x not in evidence.symbols]:
        log.info("free atoms of %s are not used: the data do not have them", " ".join(unused))
    chosen = new_e0s(_method(settings, evidence), evidence)
    errors = _errors(evidence, chosen, settings.max_error) if len(evidence.energies) else None
    left_open = open_e0s(settings.name, chosen, evidence)
    gate = over_gate(settings.name, errors, settings.max_error) if errors else ""
    single = far_off(errors) if errors and not gate else ""
    warnings = [x for x in (left_open, "" if settings.stop else gate, single) if x]
    begin = [] if left_open else [headline(settings.name, chosen, evidence)]
    result = {
        **_chosen(settings, evidence, chosen),
        **_measured(evidence, errors),
        "gate_mev_per_atom": settings.max_error,
        "sentences": begin + warnings,
        "warnings": warnings,
    }
    _say(result)
    if gate and settings.stop:
        raise UserError(gate)
    (run.receipt or Receipt(Path(out))).write(result)
    return result


def _gather(train_file: str | Path, base: torch.nn.Module, settings: E0sSettings) -> Evidence:
    """Return the training set, and the foundation model's energies and E0s for it.

    Raises UserError: an element that the model does not know, or free atoms that contradict.
    """
    structures = load_structures(train_file)
    numbers = elements_of(structures)
    check_elements(base, structures, train_file)
    model = trim_elements(base, numbers)
    free = [atoms for atoms in structures if is_isolated_atom(atoms)]
    bulk = only(structures, lambda atoms: not is_isolated_atom(atoms))
    used = only(bulk, lambda atoms: counts(atoms, "energy"))
    if settings.isolated_file:
        free += read_structures(settings.isolated_file, settings.keys)
    symbols = [chemical_symbols[z] for z in numbers]
    return Evidence(
        symbols=symbols,
        bonded=np.isin(numbers, elements_of(bulk)),
        old=np.array([get_e0s(model)[s] for s in symbols]),
        counts=composition(used, numbers).reshape(len(used), len(numbers)),
        energies=np.array([atoms.info[ENERGY] for atoms in used]),
        predicted=predict(model, graphs(used, model))["energy"] if used else np.zeros(0),
        weights=np.array([weight_of(atoms, "energy") for atoms in used]),
        free=free_energies(free, settings.isolated_file or train_file),
        frames=[where(atoms, train_file, i) for i, atoms in enumerate(used)],
        path=train_file,
        kinds=[in_words(atoms) for atoms in used],
    )


def _method(settings: E0sSettings, evidence: Evidence) -> str | dict[str, float]:
    """Return the method; of an adapter the E0s that it was trained with, {symbol: eV}.

    Raises UserError: there is no adapter, or it has no E0 of an element.
    """
    if settings.method != EARLIER:
        return settings.method
    if (folder := adapter_at(settings.adapter or "")) is None:
        raise UserError(f"e0s: {settings.adapter or '--adapter'} is not the folder of an adapter")
    earlier: dict[str, float] = read_card(folder)["E0s"]
    if missing := [x for x in evidence.symbols if x not in earlier]:
        known = ", ".join(f"{x}: {energy:.6f}" for x, energy in earlier.items())
        raise UserError(
            f"e0s: {folder} has no E0 of {', '.join(missing)}, which it was not trained on; set "
            f"e0s.method to values: {{{known}, {', '.join(f'{x}: ...' for x in missing)}}}"
        )
    return earlier


def _errors(evidence: Evidence, chosen: Chosen, gate: float) -> Errors:
    """Return the errors of the foundation model with the new E0s."""
    left = evidence.errors - evidence.counts @ (chosen.values - evidence.old)
    look = second_look(evidence, FAR * gate)
    return Errors(
        1e3 * left / evidence.n_atoms, evidence.weights, look, evidence.frames, evidence.kinds
    )


def _chosen(settings: E0sSettings, evidence: Evidence, chosen: Chosen) -> dict[str, Any]:
    """Return the E0s and where they are from, as e0s.json has them."""

    def by_symbol(values: np.ndarray) -> dict[str, float]:
        return dict(zip(evidence.symbols, values.tolist(), strict=True))

    return {
        "method": settings.name,
        "E0s": by_symbol(chosen.values),
        "sources": dict(zip(evidence.symbols, chosen.sources, strict=True)),
        "prior": by_symbol(chosen.prior.energies) if chosen.prior else {},
        "foundation_E0s": by_symbol(evidence.old),
        "correction": by_symbol(chosen.values - evidence.old),
        "rank": chosen.rank,
        "n_elements": int(evidence.bonded.sum()),
    }


def _measured(evidence: Evidence, errors: Errors | None) -> dict[str, Any]:
    """Return the errors before and after, as e0s.json has them; None without energies."""
    found: dict[str, Any] = {
        "n_structures": len(evidence.energies),
        "rmse_before_mev_per_atom": None,
        "rmse_after_mev_per_atom": None,
        "typical_after_mev_per_atom": None,
        "far_off": {},
    }
    if errors:
        far = zip(evidence.frames, errors.look.errors.tolist(), errors.look.far, strict=True)
        found |= {
            "rmse_before_mev_per_atom": rms(
                1e3 * evidence.errors / evidence.n_atoms, evidence.weights
            ),
            "rmse_after_mev_per_atom": errors.rmse,
            "typical_after_mev_per_atom": typical(errors.values),
            "far_off": {frame: error for frame, error, is_far in far if is_far},
        }
    return found


def _say(result: dict[str, Any]) -> None:
    """Log the E0s, the errors, and what to mind."""
    for symbol, energy in result["E0s"].items():
        prior = result["prior"].get(symbol)
        log.info(
            "E0 of %-2s %14.6f eV, %+.6f eV from the foundation model's (%s%s)",
            *(symbol, energy, result["correction"][symbol], result["sources"][symbol]),
            "" if prior is None else f", {prior:.6f} eV",
        )
    if result["n_structures"]:
        log.info(
            "RMSE of the foundation model on %d training energies: %.1f meV/atom, now %.1f",
            result["n_structures"],
            *(result["rmse_before_mev_per_atom"], result["rmse_after_mev_per_atom"]),
        )
    else:
        log.warning("no structure of the training set has an energy with a weight above 0")
    for warning in result["warnings"]:
        log.warning("%s", warning)
        say(f"e0s: {warning}")
