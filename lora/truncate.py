"""Step `truncate`: a trained adapter cut to a lower rank, and its spectrum.

    truncate/{point}/adapter/, spectrum.json

The singular values of a layer's weight change say how many ranks it really uses.  Cutting to
the largest ones is the best approximation of that rank (Eckart and Young, 1936), per layer and
irrep.  It needs QR and SVD of the thin factors only: with A = Q_a R_a and B^T = Q_b R_b the
singular values of A B are those of the small matrix R_a R_b^T.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapter import load_adapted, read_card, save_adapter
from lora.config import UserError
from lora.data import set_threads
from lora.factors import (
    Pairs,
    factor_pairs,
    like,
    set_pairs,
    spectra,
    spectrum,
    thin_svd,
)
from lora.files import write_sealed
from lora.foundation import load_foundation
from lora.inject import lora_layers, replace_layer
from lora.layers import LoRALayer

log = logging.getLogger(__name__)


def truncate(
    foundation: str | Path,
    adapter: str | Path,
    out: str | Path,
    rank: int | None = None,
    energy: float | None = None,
    head: str | None = None,
    threads: int | None = None,
) -> dict:
    """Cut an adapter to a rank, or to the lowest ranks that keep a share of its energy.

    Args:
        foundation, head: as for `load_foundation`
        adapter: folder of a trained LoRA adapter
        out: folder for adapter/ and spectrum.json
        rank: of every layer; layers of a lower rank stay as they are
        energy: in (0, 1]; each layer keeps the lowest rank with this share of the sum of squared
            singular values in each of its irreps

    Returns the contents of spectrum.json.  Raises UserError: bad rank or energy, not LoRA.
    """
    if (rank is None) == (energy is None):
        raise UserError("truncate: give either rank or energy")
    if rank is not None and rank < 1:
        raise UserError(f"rank: {rank} must be at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise UserError(f"energy: {energy} must lie in (0, 1]")
    set_threads(threads)
    card = read_card(adapter)
    if card["method"] != "lora":
        raise UserError(f"{adapter}: holds whole weights, not a LoRA adapter to cut")
    model = load_foundation(foundation, head, getattr(torch, card["dtype"]))
    model = load_adapted(model, adapter)
    before = spectra(lora_layers(model))
    ranks = truncate_lora(model, rank, energy)
    elements = {symbol: card["E0s"][symbol] for symbol in card["elements"]}
    notes = {**card["notes"], "cut_from": str(adapter), "base_name": card["base"]["name"]}
    save_adapter(model, Path(out) / "adapter", elements, **notes)
    result = {
        "cut_from_rank": card["rank"],
        "ranks": ranks,
        **before,
    }
    write_sealed(Path(out) / "spectrum.json", result)
    log.info("%s cut to ranks %s", adapter, sorted(set(ranks.values())))
    return result


def truncate_lora(
    model: nn.Module, rank: int | None = None, energy: float | None = None
) -> dict[str, int]:
    """Cut the LoRA layers of a model in place.  Returns the rank of each layer afterwards."""
    ranks = {}
    for name, layer in list(lora_layers(model)):
        wanted = rank if rank is not None else _rank_that_keeps(spectrum(layer), energy or 1.0)
        ranks[name] = min(layer.rank, wanted)
        if ranks[name] < layer.rank:
            replace_layer(model, name, cut(layer, ranks[name]))
    injection: Any = model.lora_injection
    targets = replace(injection.targets, rank_pattern=ranks)
    model.lora_injection = replace(injection, rank=max(ranks.values()), targets=targets)
    return ranks


def cut(layer: LoRALayer, rank: int) -> LoRALayer:
    """A layer on the same base with the best approximation of this rank."""
    new = like(layer, rank)
    share = (layer.scale / new.scale) ** 0.5
    pairs: Pairs = {}
    for part, (left, right) in factor_pairs(layer).items():
        u, values, v = thin_svd(left, right)
        root = values[:rank].sqrt()
        pairs[part] = share * u[:, :rank] * root, share * root[:, None] * v[:rank]
    set_pairs(new, pairs)
    return new


def _rank_that_keeps(spectra: dict[str, Tensor], energy: float) -> int:
    """The lowest rank that keeps the share of energy in every part."""
    ranks = [1]
    for values in spectra.values():
        kept = values.square().cumsum(0)
        if kept[-1] > 0:
            ranks.append(int((kept < energy * kept[-1] * (1 - 1e-12)).sum()) + 1)
    return max(ranks)
