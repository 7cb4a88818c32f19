"""Adapters switched off, scaled, added up, cut, and taken out of merged weights again.

A LoRA change of a weight is linear in B, so all of this is exact.  Kinds of adapters for which it
is not are refused.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.before import Before, base_weights, before
from lora.adapters.inject import (
    Injection,
    injection_of,
    lora_layers,
    train_adapters_only,
    unload_lora,
)
from lora.adapters.kinds import KINDS
from lora.adapters.layer import Adapter, Pairs
from lora.adapters.saved import attach, load_adapter, read_card
from lora.adapters.sound import check_enabled
from lora.adapters.spectra import spectrum, thin_svd
from lora.catalogue.methods import plain_start
from lora.errors import UserError
from lora.mace.elements import get_e0s, set_e0s
from lora.mace.modules import replace_layer
from lora.mace.origin import Origin, fingerprint, note, pass_on


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Let the model compute with its base weights inside the block, at no cost.

    Modules that train as a whole (`modules_to_save`) have the base's weights inside, too.  E0s are
    no part of the layers and stay those of the adapter.

    Args:
        model: A model with adapters.
    """
    layers = [layer for _, layer in lora_layers(model)]
    were = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        with base_weights(model):
            yield
    finally:
        for layer, was in zip(layers, were, strict=True):
            layer.enabled = was


@torch.no_grad()
def scale_adapters(model: nn.Module, factor: float) -> None:
    """Multiply every weight change of the model by a factor, in place: W + f s A B.

    Args:
        model: A model with adapters.
        factor: The factor.

    Raises:
        UserError: The adapters are of a kind that cannot be scaled.
        ValueError: They are switched off.
    """
    check_enabled(model, "scale")
    for _, layer in lora_layers(model):
        if not layer.linear:
            raise UserError(f"{layer.kind}: adapters of this kind cannot be scaled, only retrained")
        layer.scale_by(factor)
    for name, weight in before(model).weights.items():
        trained = model.get_parameter(name)
        base = weight.to(trained)
        trained.copy_(base + factor * (trained - base))


def unmerge(model: nn.Module, folder: str | Path) -> nn.Module:
    """Return a copy of a merged model with base weights and the adapter on them again.

    Args:
        model: What `merge_lora_weights` or a merged .model file gave.
        folder: The adapter that was merged.

    Returns:
        What `load_adapter` on the foundation model would give, to rounding.

    Raises:
        UserError: This adapter is not in this model, or it is in float32, where a sum cannot be
            taken apart exactly, or it is of a kind whose change depends on the base.
    """
    card = read_card(folder)
    _require_linear(card, folder)
    out = copy.deepcopy(model)
    attach(out, card, folder)
    with torch.no_grad():
        for _, layer in lora_layers(out):
            layer.set_base_weight(layer.base_weight() - layer.delta())
    digest = fingerprint(out)  # of float32 digits: rounding is not seen
    if digest != card["base"]["fingerprint"]:
        raise UserError(
            f"{folder}: without this adapter the model is {digest}, not its base "
            f"{card['base']['fingerprint']}: it was merged from another one, or in float32, or "
            "trained on; load the adapter onto the foundation model instead"
        )
    pass_on(Origin(digest, {}), out)
    return out


def add_adapters(model: nn.Module, weights: Mapping[str | Path, float]) -> None:
    """Put a weighted sum of saved adapters of one base on that base, in place.

    The sum of ranks r1 and r2 has rank r1 + r2, so it is exact; `truncate_lora` makes it small
    again.  E0s are summed as their differences from the base's.

    Args:
        model: The foundation model of all of them, without adapters.
        weights: {folder of an adapter: its weight in the sum}.

    Raises:
        UserError: There are no adapters, or one is of another base, of a kind that cannot be
            added, or of other layers than the first.
    """
    if not weights:
        raise UserError("add_adapters: give at least one adapter")
    base_e0s, shift = get_e0s(model), dict.fromkeys(get_e0s(model), 0.0)
    terms: list[tuple[float, dict[str, Adapter]]] = []
    injection: Injection | None = None
    for folder, weight in weights.items():
        _require_linear(read_card(folder), folder)
        load_adapter(model, folder)  # or an error, and the model is still the base
        injection = injection or injection_of(model)  # the sum is written as the first is
        e0s, layers = get_e0s(model), dict(lora_layers(model))
        unload_lora(model)
        if terms and _adapted(layers) != _adapted(terms[0][1]):
            raise UserError(
                f"{folder}: adapts other layers or irreps than the first adapter, or is of another "
                "kind"
            )
        terms.append((weight, layers))
        for symbol, energy in e0s.items():
            shift[symbol] += weight * (energy - base_e0s[symbol])

    ranks, was = {}, Before.of(model, [])
    for name in terms[0][1]:
        new = _sum([(weight, layers[name]) for weight, layers in terms])
        ranks[name] = new.width
        replace_layer(model, name, new)
    _note_ranks(model, injection, ranks)
    note(model, "lora_before", was)
    train_adapters_only(model)
    set_e0s(model, {symbol: base_e0s[symbol] + shift[symbol] for symbol in base_e0s})


def _adapted(layers: Mapping[str, Adapter]) -> dict[str, tuple[Any, ...]]:
    """Return the kind and the irreps of each adapted layer."""
    return {name: (x.kind, [*x.host.parts]) for name, x in layers.items()}


def _sum(terms: list[tuple[float, Adapter]]) -> Adapter:
    """Return the weighted sum of adapters of one layer.

    The factors of those that can be cut stand side by side; parameters of others are added up.
    """
    first, widths = terms[0][1], [layer.width for _, layer in terms]
    if not first.can_be_cut:
        new = first.like(max(widths))
        for name in new.axes:
            shares = [
                weight * layer.scale / new.scale * layer.resized(new.width)[name]
                for weight, layer in terms
            ]
            new.set_values({name: torch.stack(shares).sum(0)})
        return new
    new = first.like(sum(widths))
    lefts: dict[str, list[Tensor]] = {}
    rights: dict[str, list[Tensor]] = {}
    for weight, layer in terms:
        for part, (left, right) in layer.factors().items():
            lefts.setdefault(part, []).append(left)
            rights.setdefault(part, []).append(weight * layer.scale / new.scale * right)
    new.set_factors({p: (torch.cat(lefts[p], dim=1), torch.cat(rights[p])) for p in lefts})
    return new


def _require_linear(card: dict[str, Any], folder: str | Path) -> None:
    """Raise an error for whole weights, and for adapters whose change is not linear."""
    if card["method"] not in KINDS:
        raise UserError(f"{folder}: holds whole weights, not an adapter; use the foundation model")
    if not KINDS[card["method"]].linear:
        raise UserError(
            f"{folder}: is a {card['method']} adapter, whose change depends on the base weight; "
            "it cannot be added or taken out again"
        )
    if card["targets"].get("modules_to_save"):
        raise UserError(
            f"{folder}: holds whole modules beside its adapter ({', '.join(_modules(card))}), "
            "which cannot be added or taken out again; load it onto the foundation model"
        )


def _modules(card: dict[str, Any]) -> list[str]:
    """Return the patterns of the modules that a folder holds as a whole."""
    return list(card["targets"]["modules_to_save"])


def truncate_lora(
    model: nn.Module, rank: int | None = None, energy: float | None = None
) -> dict[str, int]:
    """Cut the adapters of a model in place.

    Args:
        model: A model with adapters that can be cut.
        rank: The rank of every layer; layers of a lower rank stay as they are.
        energy: Where no rank is given, the share of the sum of squared singular values that each
            irrep of each layer keeps, in (0, 1].

    Returns:
        The rank of each layer afterwards.

    Raises:
        UserError: The adapters are of a kind that cannot be cut.
        ValueError: They are switched off.
    """
    check_enabled(model, "cut")
    ranks = {}
    for name, layer in list(lora_layers(model)):
        if not layer.can_be_cut:
            raise UserError(
                f"{layer.kind}: adapters of this kind cannot be cut; train a lower rank"
            )
        wanted = rank if rank is not None else _rank_that_keeps(spectrum(layer), energy or 1.0)
        ranks[name] = min(layer.width, wanted)
        if ranks[name] < layer.width or layer.frozen:
            replace_layer(model, name, cut(layer, ranks[name]))
    _note_ranks(model, injection_of(model), ranks)
    return ranks


@torch.no_grad()
def cut(layer: Adapter, rank: int) -> Adapter:
    """Return a layer on the same base with the best approximation of a rank.

    Keeping the largest singular values is the best approximation (Eckart and Young, 1936).

    Args:
        layer: An adapter that can be cut.
        rank: The rank.
    """
    new = layer.like(rank)
    share = (layer.scale / new.scale) ** 0.5
    pairs: Pairs = {}
    for part, (left, right) in layer.factors().items():
        u, values, v = thin_svd(left, right)
        root = values[:rank].sqrt()
        pairs[part] = share * u[:, :rank] * root, share * root[:, None] * v[:rank]
    new.set_factors(pairs)
    return new


def _rank_that_keeps(spectra: dict[str, Tensor], energy: float) -> int:
    """Return the lowest rank that keeps the share of energy in every part."""
    ranks = [1]
    for values in spectra.values():
        kept = values.square().cumsum(0)
        if kept[-1] > 0:
            ranks.append(int((kept < energy * kept[-1] * (1 - 1e-12)).sum()) + 1)
    return max(ranks)


def _note_ranks(model: nn.Module, injection: Injection | None, ranks: dict[str, int]) -> None:
    """Note on a model how it is injected now: as before, with these ranks."""
    assert injection is not None
    targets = replace(injection.targets, rank_pattern=ranks)
    start = plain_start(injection.start)
    changed = replace(injection, rank=max(ranks.values()), targets=targets, start=start)
    note(model, "lora_injection", changed)
