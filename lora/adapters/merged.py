"""Adapters written into their bases: models as the foundation model's architecture has them."""

import copy
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import nn

from lora.adapters.inject import lora_layers, merge_lora_weights
from lora.adapters.saved import load_adapted, read_card
from lora.catalogue.foundations import NAMES
from lora.errors import UserError
from lora.mace.describe import EXACT
from lora.mace.foundation import load_foundation
from lora.mace.heads import own_head
from lora.mace.origin import without_notes
from lora.mace.predict import on_cluster
from lora.plan.commands import Base
from lora.plan.earlier import adapter_at, sweep_of


def load_model(base: Base) -> nn.Module:
    """Return a model of one head, whatever it is kept as; an adapter comes merged.

    Args:
        base: A .model file, a name that MACE knows or an adapter, and its head.

    Raises:
        UserError: There is no such model or head, or the base of the adapter is not found.
    """
    folder = adapter_at(base.model)
    return read_merged(folder, base) if folder else load_foundation(base.model, base.head)


def merged(model: nn.Module, base: nn.Module) -> nn.Module:
    """Return a model with an adapter, or with whole weights, in the architecture of its base.

    Args:
        model: What `load_adapted` returned; it is taken over.
        base: The foundation model.
    """
    holds = bool(dict(lora_layers(model)))
    out = merge_lora_weights(model) if holds else model.requires_grad_(True)
    return own_head(out, base) if len(getattr(out, "heads", None) or []) > 1 else out


def read_merged(folder: Path, base: Base) -> nn.Module:
    """Return a saved adapter merged into its base, in the precision in which it was trained.

    Args:
        folder: The folder of the adapter.
        base: The head of its base, and which that is (`under`), where the user says it.

    Raises:
        UserError: The base is not found or another one, or the adapter is damaged.
    """
    card = read_card(folder)
    under = base.under or _under(folder, card)
    model = load_foundation(under, base.head, getattr(torch, card["dtype"]), usual=card.get("head"))
    adapted = load_adapted(copy.deepcopy(model), folder)
    numbers = sorted(atomic_numbers[x] for x in card["elements"])
    expected = on_cluster(adapted, numbers)
    out = without_notes(merged(adapted, model)).eval()
    found = on_cluster(out, numbers)
    for key, value in expected.items():
        worst = float((found[key] - value).abs().max())
        if not worst <= EXACT[value.dtype] * max(1.0, float(value.abs().max())):
            raise UserError(
                f"{folder}: merged into its base the {key} differ by {worst:.1e}; please report it"
            )
    return out


def _under(folder: Path, card: dict[str, Any]) -> str | Path:
    """Return the foundation model of an adapter: of its results folder, else the one it names."""
    layout, name = sweep_of(folder), card["base"]["name"]
    if layout and layout.foundation_model.is_file():
        return layout.foundation_model
    if name and (Path(name).is_file() or name in NAMES):
        return str(name)
    said = f"{card['base']['fingerprint']}{f' ({name})' if name else ''}"
    raise UserError(
        f"foundation.base: is missing; {folder} is an adapter of the base {said}, which is not "
        "here: name its .model file"
    )
