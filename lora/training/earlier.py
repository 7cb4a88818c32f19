"""Trainings that go on from an adapter that was trained before (`start: adapter`).

The start is the adapter's change of each weight, whatever alpha, scaling and rank make of it:
with s the scale of the saved adapter and t that of the new one, s A B = t A' B' for

    A' = sqrt(s/t) A,  B' = sqrt(s/t) B

A lower rank keeps the largest singular values (`lora.adapters.algebra.cut`), a higher one adds
columns of A at their random start and rows of B at zero, which change nothing and can be trained.
E0s are those of the new sweep, chosen from its data as always; `e0s.method: adapter` keeps those
of the adapter.
"""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.adapters.algebra import cut
from lora.adapters.full_layout import trimmed_values
from lora.adapters.inject import lora_layers
from lora.adapters.layer import Adapter, Pairs
from lora.adapters.saved import holds_weights, load_adapted, read_card
from lora.adapters.stored import Values
from lora.catalogue.methods import EARLIER
from lora.data.e0s_words import from_earlier
from lora.errors import UserError
from lora.mace.elements import get_e0s
from lora.mace.origin import origin_of
from lora.plan.earlier import adapter_at
from lora.plan.settings import TrainSettings

log = logging.getLogger(__name__)
EXACT = ("rank", "alpha", "scaling")  # which kinds that cannot be cut must have as they were


def earlier_adapter(settings: TrainSettings) -> Path:
    """Return the folder of the adapter that a training goes on from.

    Args:
        settings: Those of a point that `goes_on`.

    Raises:
        UserError: There is no adapter.
    """
    folder = adapter_at(settings.start_from or "")
    if folder is None:
        raise UserError(f"start_from: {settings.start_from} is not the folder of an adapter")
    return folder


def from_adapter(base: nn.Module, settings: TrainSettings) -> Callable[[nn.Module], None]:
    """Return what puts the adapters of a model at those of an earlier training.

    Args:
        base: The foundation model, without a second head.
        settings: Resolved settings of the point.

    Raises:
        UserError: The adapter is missing or damaged, belongs to another base, is of another kind,
            or, once a model is there, has other layers or a rank that is not defined there.
    """
    folder = earlier_adapter(settings)
    card = read_card(folder)
    _refuse(card, settings, folder)
    saved = dict(lora_layers(load_adapted(copy.deepcopy(base), folder)))

    def start(model: nn.Module) -> None:
        origin, layers = origin_of(model), dict(lora_layers(model))
        _refuse_layers(saved, layers, folder)
        for name, layer in layers.items():
            random = _factors(layer) if layer.can_be_cut else {}
            values = _moved(saved[name], layer)
            layer.set_values(trimmed_values(model, origin, name, layer, values))
            if random and layer.rank > saved[name].width:
                pairs, n = _factors(layer), saved[name].width
                for part, (left, right) in random.items():
                    pairs[part][0][:, n:], pairs[part][1][n:] = left[:, n:], right[n:]
                layer.set_factors(pairs)
        _say(card, model, saved, layers)

    return start


def _factors(layer: Adapter) -> Pairs:
    """Return copies of the factors of a layer."""
    return {part: (a.clone(), b.clone()) for part, (a, b) in layer.factors().items()}


@torch.no_grad()
def _moved(whole: Adapter, layer: Adapter) -> Values:
    """Return the parameters with which a layer changes its weight as a saved one does."""
    if not layer.can_be_cut:
        return {name: value.detach() for name, value in whole.values().items()}
    lower = cut(whole, layer.rank) if layer.rank < whole.width else whole
    share = (lower.scale / layer.scale) ** 0.5
    return {name: share * value for name, value in lower.resized(layer.width).items()}


def _refuse(card: dict[str, Any], settings: TrainSettings, folder: Path) -> None:
    """Raise UserError for an adapter that a point cannot go on from."""
    where, kind = f"start_from: {folder}", settings.method
    if holds_weights(card):
        raise UserError(f"{where} holds whole weights, not an adapter; train a LoRA point there")
    if card["method"] != kind:
        raise UserError(f"{where} is a {card['method']} adapter, and this point trains {kind}")
    if card["replay"] != settings.replay:
        had, has = ("with", "without")[:: 1 if card["replay"] else -1]
        raise UserError(f"{where} was trained {had} replay, and this point trains {has}")
    if card["targets"].get("modules_to_save") or settings.targets.modules_to_save:
        raise UserError(f"{where}: with targets.modules_to_save there is no start {EARLIER}")


def _refuse_layers(saved: dict[str, Adapter], layers: dict[str, Adapter], folder: Path) -> None:
    """Raise UserError where an adapter has other layers or irreps, or a rank that cannot be."""
    odd = sorted(saved.keys() ^ layers.keys())
    odd += [x for x in layers.keys() & saved if [*layers[x].host.parts] != [*saved[x].host.parts]]
    if odd:
        does = "adapts" if odd[0] in saved else "does not adapt"
        raise UserError(
            f"start_from: {folder} {does} {odd[0]} as this point does not; give targets and "
            "grid.placement as they were there"
        )
    for name, layer in layers.items() if not next(iter(layers.values())).can_be_cut else ():
        for what in EXACT:
            was, now = (getattr(x, what) for x in (saved[name], layer))
            if was != now:
                raise UserError(
                    f"start_from: {folder} has {what} {was}, and this point {now}; {layer.kind} "
                    "adapters go on with the same one only"
                )
        if saved[name].width != layer.width:  # pissa's has the columns of the base's part, too
            raise UserError(
                f"start_from: {folder} has {saved[name].width} columns in {name}, as of the start "
                f"pissa, and this point {layer.width}, to which {layer.kind} adapters cannot be "
                "cut; go on from it as foundation.model"
            )


def _say(
    card: dict[str, Any], model: nn.Module, saved: dict[str, Adapter], layers: dict[str, Adapter]
) -> None:
    """Log what is not as it was: ranks and E0s."""
    lower = [x for x in layers if layers[x].rank < saved[x].width and layers[x].can_be_cut]
    if lower:
        log.warning(
            "start_from: %d of %d layers keep the largest singular values (%s: rank %d of %d)",
            *(len(lower), len(layers), lower[0], layers[lower[0]].rank, saved[lower[0]].width),
        )
    if moved := from_earlier(get_e0s(model), card["E0s"]):
        log.warning("start_from: %s", moved)
