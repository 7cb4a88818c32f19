"""Step `merge`: write adapters into their foundation model, and prove that they are in it.

    merge/{point}/{point}.model, merge.json

The result is a standard MACE model with the architecture of the foundation model; it does
not need this package to run.
"""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.adapters.inject import lora_layers
from lora.adapters.merged import merged as merged_into
from lora.adapters.saved import load_adapted, read_card
from lora.data.structures import elements_of, load_structures
from lora.errors import UserError
from lora.files.sealed import digest, read_json, write_sealed, write_torch
from lora.mace.device import set_threads
from lora.mace.elements import check_elements, set_e0s
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.graphs import graphs
from lora.mace.origin import without_notes
from lora.mace.predict import predict
from lora.plan.commands import Base, Run

log = logging.getLogger(__name__)

N_CHECKED = 20  # structures of the proof, spread over the file
BOUND = {torch.float64: 1e-9, torch.float32: 1e-3}  # eV, eV/Å, eV/Å^3


def merge(
    base: Base,
    check_file: str | Path,
    adapters: dict[Path, Path | None],
    e0s_file: str | Path | None = None,
    dtype: str = "float64",
    run: Run = Run(),
) -> list[dict[str, Any]]:
    """Merge adapters (or only new E0s, for the point `foundation`) into full models.

    Args:
        base: The foundation model of all of them.
        check_file: The structures on which merged and adapter model are compared.
        adapters: {the .model file to write: folder of the adapter}; merge.json goes beside it.
            None in place of an adapter sets the E0s of e0s_file and nothing else.
        e0s_file: The e0s.json of the point `foundation`; None where there are adapters.
        dtype: The dtype of a saved model where there is no adapter; an adapter keeps its own.
        run: Threads, and the receipt for the contents of all merge.json.

    Returns:
        The contents of each merge.json.

    Raises:
        UserError: An adapter is of another base, or merged and adapter model differ.
    """
    if (None in adapters.values()) != (e0s_file is not None):
        raise UserError("merge: give an adapter, or for the foundation model alone an e0s file")
    set_threads(run.threads)
    structures = load_structures(check_file)
    structures = structures[:: max(1, len(structures) // N_CHECKED)][:N_CHECKED]
    e0s = {} if e0s_file is None else read_json(e0s_file)["E0s"]
    models: dict[str, nn.Module] = {}  # by dtype
    results = []
    for out, adapter in adapters.items():
        kind = read_card(adapter)["dtype"] if adapter else dtype
        if kind not in models:
            models[kind] = load_foundation(base.model, base.head, getattr(torch, kind))
            check_elements(models[kind], structures, check_file)
        model = copy.deepcopy(models[kind])
        if not adapter:
            set_e0s(model, e0s)
        results.append(_merge(model, Path(out), adapter, structures))
    if run.receipt:
        run.receipt.write_points(results)
    return results


def _merge(
    base: nn.Module, out: Path, adapter: Path | None, structures: Sequence[Atoms]
) -> dict[str, Any]:
    """Merge one adapter into its base, prove it on the structures, write merge.json."""
    tuned = sorted(read_card(adapter)["elements"]) if adapter else []
    model = load_adapted(copy.deepcopy(base), adapter) if adapter else copy.deepcopy(base)
    n_lora, dtype = len(dict(lora_layers(model))), next(model.parameters()).dtype
    unmerged = predict(model, graphs(structures, model), stress=True)
    merged = merged_into(model, base)
    _check_architecture(merged, base)
    out.with_name("merge.json").unlink(missing_ok=True)  # of another model, until that is proved
    residuals = _write_and_prove(merged, out, structures, unmerged)
    result = {
        "point": out.stem,
        "model": out.name,
        "class": type(merged).__name__,
        "dtype": str(dtype).removeprefix("torch."),
        "merged_layers": n_lora,
        "checked_structures": len(structures),
        "checked_elements": elements_of(structures),
        "fine_tuned_elements": tuned,
        "max_abs_difference": residuals,
        "bound": BOUND[dtype],
        "fingerprint": fingerprint(merged),
        "file_digest": digest(out),
    }
    write_sealed(out.with_name("merge.json"), result, [out])
    log.info(
        "%s: merged against adapter on %d structures: dE %.1e eV, dF %.1e eV/Å, dS %.1e eV/Å^3",
        *(out, len(structures), *residuals.values()),
    )
    return result


def _write_and_prove(
    merged: nn.Module, out: Path, structures: Sequence[Atoms], unmerged: dict[str, np.ndarray]
) -> dict[str, float]:
    """Write a merged model, and compare what its file predicts with the adapter model.

    Returns:
        The largest differences of energies (eV), forces (eV/Å) and stresses (eV/Å^3).

    Raises:
        UserError: They differ by more than rounding; the file is deleted.
    """
    data, bound = graphs(structures, merged), BOUND[next(merged.parameters()).dtype]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(merged, out)
    reloaded = torch.load(out, weights_only=False)  # the file that was just written
    again = predict(reloaded, data, stress=True)
    residuals = {
        key: float(np.abs(again[key] - unmerged[key]).max())
        for key in ("energy", "forces", "stress")
    }
    if not max(residuals.values()) <= bound:
        out.unlink()
        raise UserError(
            f"{out}: merged and adapter model differ by {max(residuals.values()):.1e}, over "
            f"{bound:g}; this is a bug, please report it with adapter.json and the log"
        )
    return residuals


def save_model(model: nn.Module, path: Path) -> None:
    """Save as mace_run_train does, whole or not at all, without the notes we keep on a model.

    Args:
        model: A merged model.
        path: The .model file.
    """
    write_torch(path, without_notes(model))


def _check_architecture(model: nn.Module, base: nn.Module) -> None:
    """Raise an error if the tensors of two models differ in name or shape."""
    found, shapes = (
        {name: tuple(value.shape) for name, value in x.state_dict().items()} for x in (model, base)
    )
    if found != shapes:
        changed = sorted(set(found.items()) ^ set(shapes.items()))[0][0]
        raise UserError(f"merge: {changed} is not as in the foundation model; please report it")
