"""Adapters switched off, scaled, added up, and taken out of merged weights again.

The change of a weight is linear in B, so all of this is exact.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.inject import lora_layers, take_adapters, train_adapters_only
from lora.adapters.layer import LoRALayer
from lora.adapters.saved import attach, load_adapter, read_card
from lora.adapters.spectra import Pairs, factor_pairs, like, set_pairs, spectrum, thin_svd
from lora.errors import UserError
from lora.mace.elements import get_e0s, set_e0s
from lora.mace.foundation import fingerprint
from lora.mace.modules import replace_layer


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Inside the block the model computes with its base weights; the adapters cost nothing.

    E0s are no part of the layers and stay those of the adapter.
    """
    layers = [layer for _, layer in lora_layers(model)]
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.enabled = was


@torch.no_grad()
def scale_adapters(model: nn.Module, factor: float) -> None:
    """Multiply every weight change of the model by `factor`, in place."""
    for _, layer in lora_layers(model):
        layer.lora_B.mul_(factor)


def unmerge(model: nn.Module, folder: str | Path) -> nn.Module:
    """Undo a merge: a copy of a merged model with base weights and the adapter on them again.

    Args:
        model: what `merge_lora_weights` or a merged .model file gave
        folder: the adapter that was merged

    Returns what `load_adapter` on the foundation model would give, to rounding.

    Raises UserError: this adapter is not in this model; or it is in float32, where a sum cannot
    be taken apart exactly.
    """
    card = read_card(folder)
    if card["method"] != "lora":
        raise UserError(f"{folder}: holds whole weights; take the foundation model itself")
    out = copy.deepcopy(model)
    attach(out, card, folder)
    with torch.no_grad():
        for _, layer in lora_layers(out):
            layer.set_base_weight(layer.base_weight() - layer.delta())
    injection, layers = out.lora_injection, take_adapters(out)
    out.base_fingerprint = fingerprint(out)  # of float32 digits: rounding is not seen
    if out.base_fingerprint != card["base"]["fingerprint"]:
        raise UserError(
            f"{folder}: without this adapter the model is {out.base_fingerprint}, not its base "
            f"{card['base']['fingerprint']}: it was merged from another one, or in float32, or "
            "trained on; load the adapter onto the foundation model instead"
        )
    for name, layer in layers.items():
        replace_layer(out, name, layer)
    out.lora_injection = injection
    return out


def add_adapters(model: nn.Module, weights: Mapping[str | Path, float]) -> None:
    """Put a weighted sum of saved adapters of one base on that base, in place.

    The sum of ranks r1 and r2 has rank r1 + r2, so it is exact; `truncate_lora` makes it small
    again.  E0s are summed as their differences from the base's.

    Args:
        model: the foundation model of all of them, without adapters
        weights: {folder of an adapter: its weight in the sum}

    Raises UserError: no adapters, one of another base, or adapters of different layers.
    """
    if not weights:
        raise UserError("add_adapters: give at least one adapter")
    base_e0s, shift = get_e0s(model), dict.fromkeys(get_e0s(model), 0.0)
    parts: list[tuple[float, dict[str, Any]]] = []
    injection: Any = None
    for folder, weight in weights.items():
        if read_card(folder)["method"] != "lora":
            raise UserError(f"{folder}: holds whole weights, not a LoRA adapter to add")
        try:
            load_adapter(model, folder)
            injection = injection or model.lora_injection  # the sum is written as the first is
        finally:  # whatever happens, the model is the base again
            e0s, layers = get_e0s(model), take_adapters(model)
            set_e0s(model, base_e0s)
        if parts and layers.keys() != parts[0][1].keys():
            raise UserError(f"{folder}: adapts other layers than the first adapter")
        parts.append((weight, layers))
        for symbol, energy in e0s.items():
            shift[symbol] += weight * (energy - base_e0s[symbol])

    ranks = {}
    for name, first in parts[0][1].items():
        own = [(weight, layers[name]) for weight, layers in parts]
        ranks[name] = sum(layer.rank for _, layer in own)
        new = like(first, ranks[name])
        lefts: dict[str, list[Tensor]] = {}
        rights: dict[str, list[Tensor]] = {}
        for weight, layer in own:
            for part, (left, right) in factor_pairs(layer).items():
                lefts.setdefault(part, []).append(left)
                rights.setdefault(part, []).append(weight * layer.scale / new.scale * right)
        pairs: Pairs = {p: (torch.cat(lefts[p], dim=1), torch.cat(rights[p])) for p in lefts}
        set_pairs(new, pairs)
        replace_layer(model, name, new)
    targets = replace(injection.targets, rank_pattern=ranks)
    model.lora_injection = replace(injection, rank=max(ranks.values()), targets=targets)
    train_adapters_only(model)
    set_e0s(model, {symbol: base_e0s[symbol] + shift[symbol] for symbol in base_e0s})


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
