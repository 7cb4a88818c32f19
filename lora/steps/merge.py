"""Step `merge`: adapters written into their foundation model, and the proof that they are.

    merge/{point}/{point}.model, merge.json

The result is a standard MACE model with the architecture of the foundation model; it needs
nothing of ours to run.
"""

import copy
import logging
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.adapters.inject import lora_layers, merge_lora_weights
from lora.adapters.saved import load_adapted, read_card
from lora.data.structures import elements_of, load_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, digest, read_json, write_sealed, write_torch
from lora.mace.device import set_threads
from lora.mace.elements import set_e0s
from lora.mace.foundation import fingerprint, load_foundation
from lora.mace.graphs import graphs
from lora.mace.heads import own_head
from lora.mace.notes import without_notes
from lora.mace.predict import predict

log = logging.getLogger(__name__)

N_CHECKED = 20  # structures of the proof, spread over the file
BOUND = {torch.float64: 1e-9, torch.float32: 1e-3}  # eV, eV/Å, eV/Å^3


def merge(
    foundation: str | Path,
    check_file: str | Path,
    adapters: dict[Path, Path | None],
    e0s_file: str | Path | None = None,
    head: str | None = None,
    dtype: str = "float64",
    threads: int | None = None,
    receipt: Receipt | None = None,
) -> list[dict]:
    """Merge adapters (or only new E0s, for the point `foundation`) into full models.

    Args:
        foundation, head: as for `load_foundation`
        check_file: structures on which merged and adapter model are compared
        adapters: {the .model file to write: folder of the adapter}; merge.json goes beside it.
            None in place of an adapter sets the E0s of e0s_file and nothing else
        dtype: of a saved model where there is no adapter; an adapter keeps its own
        receipt: for the contents of all merge.json

    Returns the contents of each merge.json.

    Raises UserError: adapter of another base, or merged and adapter model differ.
    """
    if (None in adapters.values()) != (e0s_file is not None):
        raise UserError("merge: give an adapter, or for the foundation model alone an e0s file")
    set_threads(threads)
    structures = load_structures(check_file)
    structures = structures[:: max(1, len(structures) // N_CHECKED)][:N_CHECKED]
    bases: dict[str, nn.Module] = {}  # by dtype
    results = []
    for out, adapter in adapters.items():
        kind = read_card(adapter)["dtype"] if adapter else dtype
        if kind not in bases:
            bases[kind] = load_foundation(foundation, head, getattr(torch, kind))
        base = copy.deepcopy(bases[kind])
        e0s = {} if adapter else read_json(e0s_file)["E0s"]
        results.append(_merge(base, Path(out), adapter, e0s, structures))
    if receipt:
        receipt.write_points(results)
    return results


def _merge(
    base: nn.Module, out: Path, adapter: Path | None, e0s: dict, structures: list[Atoms]
) -> dict:
    """Merge one adapter into its base, prove it on the file, write merge.json."""
    shapes = {name: tuple(value.shape) for name, value in base.state_dict().items()}
    tuned = sorted(read_card(adapter)["elements"]) if adapter else []
    model = load_adapted(copy.deepcopy(base), adapter) if adapter else base
    set_e0s(model, e0s)
    n_lora, dtype = len(dict(lora_layers(model))), next(model.parameters()).dtype
    unmerged = predict(model, graphs(structures, model), stress=True)
    merged = merge_lora_weights(model)
    merged = own_head(merged, base) if len(getattr(merged, "heads", None) or []) > 1 else merged
    data = graphs(structures, merged)
    _same_architecture(merged, shapes)

    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(merged, out)
    reloaded = torch.load(out, weights_only=False)  # the file that was just written
    again = predict(reloaded, data, stress=True)
    residuals = {
        key: float(np.abs(again[key] - unmerged[key]).max())
        for key in ("energy", "forces", "stress")
    }
    bound = BOUND[dtype]
    if not max(residuals.values()) <= bound:
        out.unlink()
        raise UserError(
            f"{out}: merged and adapter model differ by {max(residuals.values()):.1e}, over "
            f"{bound:g}; this is a defect, please report it with merge.json's settings"
        )
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
        "bound": bound,
        "fingerprint": fingerprint(merged),
        "file_digest": digest(out),
    }
    write_sealed(out.with_name("merge.json"), result, [out])
    log.info(
        "%s: merged against adapter on %d structures: dE %.1e eV, dF %.1e eV/Å, dS %.1e eV/Å^3",
        *(out, len(structures), *residuals.values()),
    )
    return result


def save_model(model: nn.Module, path: Path) -> None:
    """Save as mace_run_train does, whole or not at all, without the notes we keep on a model."""
    write_torch(path, without_notes(model))


def _same_architecture(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if found != shapes:
        changed = sorted(set(found.items()) ^ set(shapes.items()))[0][0]
        raise UserError(f"merge: {changed} is not as in the foundation model; please report it")
