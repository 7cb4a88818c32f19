"""Step `truncate`: cut a trained adapter to a lower rank, and write its spectrum.

    truncate/{point}/adapter/, spectrum.json

The singular values of a layer's weight change say how many ranks it really uses.  Cutting to
the largest ones is the best approximation of that rank (Eckart and Young, 1936), per layer and
irrep.  It needs QR and SVD of the thin factors only: with A = Q_a R_a and B^T = Q_b R_b the
singular values of A B are those of the small matrix R_a R_b^T.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from lora.adapters.algebra import truncate_lora
from lora.adapters.inject import lora_layers
from lora.adapters.saved import holds_weights, load_adapted, read_card, save_adapter
from lora.adapters.spectra import spectra
from lora.errors import UserError
from lora.files.sealed import write_sealed
from lora.mace.device import set_threads
from lora.mace.foundation import load_foundation
from lora.plan.commands import Base, Run

log = logging.getLogger(__name__)


def truncate(
    base: Base,
    adapter: str | Path,
    out: str | Path,
    rank: int | None = None,
    energy: float | None = None,
    run: Run = Run(),
) -> dict[str, Any]:
    """Cut an adapter to a rank, or to the lowest ranks that keep a share of its energy.

    Args:
        base: The foundation model that the adapter was trained on.
        adapter: The folder of a trained adapter.
        out: The folder for adapter/ and spectrum.json.
        rank: The rank of every layer; layers of a lower rank stay as they are.
        energy: In (0, 1]; each layer keeps the lowest rank with this share of the sum of squared
            singular values in each of its irreps.
        run: Threads, and the receipt of a job of a sweep, which is spectrum.json.

    Returns:
        The contents of spectrum.json.

    Raises:
        UserError: The rank or energy is not allowed, or the folder holds no adapter that can be
            cut.
    """
    _check(rank, energy)
    set_threads(run.threads)
    card = read_card(adapter)
    if holds_weights(card):
        raise UserError(f"{adapter}: holds whole weights, not a LoRA adapter to cut")
    model = load_foundation(base.model, base.head, getattr(torch, card["dtype"]))
    model = load_adapted(model, adapter)
    before = spectra(lora_layers(model))
    ranks = truncate_lora(model, rank, energy)
    elements = {symbol: card["E0s"][symbol] for symbol in card["elements"]}
    notes = {**card["notes"], "cut_from": str(adapter), "base_name": card["base"]["name"]}
    save_adapter(model, Path(out) / "adapter", elements, **notes)
    result = {"cut_from_rank": card["rank"], "ranks": ranks, **before}
    if run.receipt:
        run.receipt.write(result)
    else:
        write_sealed(Path(out) / "spectrum.json", result)
    log.info("%s cut to ranks %s", adapter, sorted(set(ranks.values())))
    return result


def _check(rank: int | None, energy: float | None) -> None:
    """Raise an error unless one of them is given, and is allowed."""
    if (rank is None) == (energy is None):
        raise UserError("truncate: give either rank or energy")
    if rank is not None and rank < 1:
        raise UserError(f"rank: {rank} must be at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise UserError(f"energy: {energy} must lie in (0, 1]")
