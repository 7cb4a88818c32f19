"""Step `merge`: the adapter written into its foundation model, and the proof that it is.

    merge/{point}/{point}.model, merge.json

The result is a standard MACE model with the architecture of the foundation model; it needs
nothing of ours to run.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lora.adapter import load_adapter, read_card
from lora.config import UserError
from lora.data import graphs, predict, set_threads
from lora.elements import set_e0s
from lora.files import digest, read_json, write_json
from lora.foundation import fingerprint, load_foundation
from lora.inject import lora_layers, merge_lora_weights
from lora.structures import elements_of, load_structures

log = logging.getLogger(__name__)

N_CHECKED = 20  # structures of the proof, spread over the file
BOUND = {torch.float64: 1e-9, torch.float32: 1e-3}  # eV, eV/Å, eV/Å^3
OURS = ("base_fingerprint", "kept_elements", "base_elements", "lora_injection")


def merge(
    foundation: str | Path,
    check_file: str | Path,
    out: str | Path,
    adapter: str | Path | None = None,
    e0s_file: str | Path | None = None,
    head: str | None = None,
    dtype: str = "float64",
    threads: int | None = None,
) -> dict:
    """Merge an adapter (or only new E0s, for the point `foundation`) into the full model.

    Args:
        foundation, head: as for `load_foundation`
        check_file: structures on which merged and adapter model are compared
        out: the .model file; merge.json goes beside it
        adapter: folder of the adapter; None sets the E0s of e0s_file and nothing else
        dtype: of the saved model where there is no adapter; an adapter keeps its own

    Returns the contents of merge.json.

    Raises UserError: adapter of another base, or merged and adapter model differ.
    """
    if (adapter is None) == (e0s_file is None):
        raise UserError("merge: give an adapter, or for the foundation model alone an e0s file")
    set_threads(threads)
    dtype = read_card(adapter)["dtype"] if adapter else dtype
    base = load_foundation(foundation, head, getattr(torch, dtype))
    shapes = {name: tuple(value.shape) for name, value in base.state_dict().items()}
    if adapter:
        card = load_adapter(base, adapter)
        tuned = sorted(card["elements"])
    else:
        e0s = read_json(e0s_file)["E0s"]
        set_e0s(base, e0s)
        tuned = []
    structures = load_structures(check_file)
    structures = structures[:: max(1, len(structures) // N_CHECKED)][:N_CHECKED]
    n_lora = len(dict(lora_layers(base)))
    unmerged = predict(base, graphs(structures, base), stress=True)
    merged = merge_lora_weights(base)
    _same_architecture(merged, shapes)

    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(merged, out)
    reloaded = torch.load(out, weights_only=False)  # the file that was just written
    again = predict(reloaded, graphs(structures, reloaded), stress=True)
    residuals = {
        key: float(np.abs(again[key] - unmerged[key]).max())
        for key in ("energy", "forces", "stress")
    }
    bound = BOUND[getattr(torch, dtype)]
    result = {
        "model": out.name,
        "class": type(merged).__name__,
        "dtype": dtype,
        "merged_layers": n_lora,
        "checked_structures": len(structures),
        "checked_elements": elements_of(structures),
        "fine_tuned_elements": tuned,
        "max_abs_difference": residuals,
        "bound": bound,
        "fingerprint": fingerprint(merged),
        "file_digest": digest(out),
    }
    if not max(residuals.values()) <= bound:
        out.unlink()
        raise UserError(
            f"{out}: merged and adapter model differ by {max(residuals.values()):.1e}, over "
            f"{bound:g}; this is a defect, please report it with merge.json's settings"
        )
    write_json(out.with_name("merge.json"), result)
    log.info(
        "%s: merged against adapter on %d structures: dE %.1e eV, dF %.1e eV/Å, dS %.1e eV/Å^3",
        *(out, len(structures), *residuals.values()),
    )
    return result


def save_model(model: nn.Module, path: Path) -> None:
    """Save as mace_run_train does, whole or not at all, without the notes we keep on a model."""
    for name in OURS:
        model.__dict__.pop(name, None)
    beside = path.with_name(f".{path.name}.part")
    torch.save(model, beside)
    beside.replace(path)


def _same_architecture(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if found != shapes:
        changed = sorted(set(found.items()) ^ set(shapes.items()))[0][0]
        raise UserError(f"merge: {changed} is not as in the foundation model; please report it")
