"""Adapters as files: adapter.safetensors has the tensors, adapter.json all else.

An adapter is bound to the weights it was trained on by their fingerprint, and stored in the
layout of the full foundation model, also where training ran on one trimmed to fewer elements.
So `load_adapter` needs nothing but the foundation model.
"""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from lora.adapters.full_layout import full_values
from lora.adapters.inject import (
    Injection,
    inject,
    injection_of,
    injection_settings,
    lora_layers,
)
from lora.adapters.kinds import KINDS
from lora.errors import UserError
from lora.files.sealed import check_file, read_json, write_bytes, write_sealed
from lora.mace.elements import get_e0s, restore_elements, set_e0s
from lora.mace.foundation import base_digest
from lora.mace.heads import REPLAY, two_heads
from lora.plan.targets import Targets

log = logging.getLogger(__name__)

FORMAT = 1
TENSORS, CARD = "adapter.safetensors", "adapter.json"
WEIGHTS = "weights"  # the method of a card whose tensors are whole weights
SOFTWARE = ("mace-lora-sweep", "mace-torch", "e3nn", "torch")


def save_adapter(
    model: nn.Module, folder: str | Path, e0s: dict[str, float] | None = None, **notes: Any
) -> Path:
    """Write the adapters of an injected model to a folder.

    Args:
        model: A model that `inject_lora` was called on, trained or not, trimmed to some elements
            or not.
        folder: The folder; it is made if need be.
        e0s: The E0s (eV) of the fine-tuned elements; by default those of the elements that the
            model knows.
        **notes: Anything that JSON can hold, kept under "notes".

    Returns:
        The folder.

    Raises:
        ValueError: The model holds no adapters.
    """
    kind, settings = injection_of(model).kind, injection_settings(model)
    tensors: dict[str, Any] = {}
    for name, layer in lora_layers(model):
        trimmed = hasattr(model, "kept_elements")
        values = full_values(model, name, layer) if trimmed else layer.values()
        tensors |= {f"{name}.{key}": value.detach() for key, value in values.items()}
    card = {"method": kind, **settings, "layers": [name for name, _ in lora_layers(model)]}
    return _write(model, Path(folder), tensors, card | {"notes": notes}, e0s)


def save_weights(
    model: nn.Module,
    base: nn.Module,
    folder: str | Path,
    e0s: dict[str, float] | None = None,
    **notes: Any,
) -> Path:
    """Write whole weights in place of adapters: all that was trained of a trimmed model.

    This is what points of the methods full and freeze keep; `load_adapter` reads it as it reads
    an adapter.

    Args:
        model: The trained model, trimmed to some elements of its base.
        base: Its foundation model, whose layout the weights are written in.
        folder: The folder; it is made if need be.
        e0s: As for `save_adapter`.
        **notes: As for `save_adapter`.

    Returns:
        The folder.
    """
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    state = restore_elements(model, base).state_dict()
    tensors = {name: state[name].detach() for name in trained}
    card = {"method": WEIGHTS, "layers": trained, "notes": notes}
    return _write(model, Path(folder), tensors, card, e0s)


def load_adapter(model: nn.Module, folder: str | Path) -> dict[str, Any]:
    """Put a saved adapter, and the E0s it was trained with, on its foundation model, in place.

    Args:
        model: The foundation model that the adapter was trained on, as `load_foundation` returns
            it.
        folder: What `save_adapter` wrote.

    Returns:
        The contents of adapter.json.

    Raises:
        UserError: The files are missing or damaged, or the model is another one.
    """
    card = read_card(folder)
    check_base(model, card, folder)
    if card.get("replay") and REPLAY not in (getattr(model, "heads", None) or []):
        raise UserError(
            f"{folder}: was trained with replay and has two heads; merge it (mace-lora merge), or "
            "load it with lora.adapters.saved.load_adapted"
        )
    attach(model, card, folder)
    return card


def load_adapted(model: nn.Module, folder: str | Path) -> nn.Module:
    """Return the foundation model with a saved adapter on it, with two heads if it has two.

    Args:
        model: The foundation model; it is taken over.
        folder: What `save_adapter` wrote.

    Raises:
        UserError: As for `load_adapter`.
    """
    card = read_card(folder)
    check_base(model, card, folder)
    model = two_heads(model) if card.get("replay") else model
    attach(model, card, folder)
    return model


def check_base(model: nn.Module, card: dict[str, Any], folder: str | Path) -> None:
    """Raise an error if the model is not the one that an adapter was trained on.

    Args:
        model: The model.
        card: The contents of adapter.json.
        folder: The folder of the adapter, for the message.

    Raises:
        UserError: It is another model.
    """
    found = base_digest(model)
    if found != card["base"]["fingerprint"]:
        name = card["base"].get("name")
        raise UserError(
            f"{folder}: this adapter belongs to the base {card['base']['fingerprint']}"
            f"{f' ({name})' if name else ''}, the model given is {found}; "
            "load it onto the foundation model it was trained on"
        )


def attach(model: nn.Module, card: dict[str, Any], folder: str | Path) -> None:
    """Put the weights and E0s of a saved adapter on a model, whatever its own weights are.

    The tensors are safetensors: reading them cannot run code.

    Args:
        model: A model of the architecture of the foundation model.
        card: The contents of adapter.json.
        folder: The folder of the adapter.

    Raises:
        UserError: The tensors are missing or damaged, or do not fit the model.
    """
    path = Path(folder) / TENSORS
    check_file(path)
    try:
        tensors = load_file(path)
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({error}); train this point again") from None
    if card["method"] != WEIGHTS:
        inject(model, _injection_of(card, folder))
    dtype = next(model.parameters()).dtype
    if str(dtype) != f"torch.{card['dtype']}":
        log.warning("%s: trained in %s, loaded into a %s model", folder, card["dtype"], dtype)
    state = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    unmatched = model.load_state_dict(state, strict=False).unexpected_keys
    missing = [name for name in _expected(model, card) if name not in state]
    if unmatched or missing:
        raise UserError(f"{path}: does not fit the model at {(unmatched + missing)[0]}")
    set_e0s(model, card["E0s"])


def read_card(folder: str | Path) -> dict[str, Any]:
    """Return the contents of adapter.json.

    Args:
        folder: The folder of an adapter.

    Raises:
        UserError: The file is missing, damaged or of another format.
    """
    path = Path(folder) / CARD
    try:
        card: dict[str, Any] = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an adapter ({error})") from None
    if card.get("format") != FORMAT:
        raise UserError(
            f"{path}: has format {card.get('format')}, this version reads {FORMAT}; "
            "use the version of mace-lora-sweep that wrote it"
        )
    return card


def holds_weights(card: dict[str, Any]) -> bool:
    """Return True if a folder holds whole weights in place of adapters.

    Args:
        card: The contents of adapter.json.
    """
    return bool(card["method"] == WEIGHTS)


def _injection_of(card: dict[str, Any], folder: str | Path) -> Injection:
    """Return how the model of a saved adapter was injected."""
    if card["method"] not in KINDS:
        raise UserError(
            f"{folder}: holds {card['method']} adapters, this version knows {', '.join(KINDS)}; "
            "use the version of mace-lora-sweep that wrote it"
        )
    names = ("rank", "alpha", "scaling", "wrap_equivariant", "wrap_dense")
    settings = {name: card[name] for name in names} | {"start": card.get("start", "documented")}
    return Injection(**settings, targets=Targets.from_dict(card["targets"]), kind=card["method"])


def _expected(model: nn.Module, card: dict[str, Any]) -> list[str]:
    """Return the names of the tensors that a model needs from a saved adapter."""
    if holds_weights(card):
        return list(card["layers"])
    return [f"{name}.{key}" for name, layer in lora_layers(model) for key in layer.axes]


def _write(
    model: nn.Module,
    folder: Path,
    tensors: dict[str, Tensor],
    card: dict[str, Any],
    e0s: dict[str, float] | None,
) -> Path:
    """Write tensors and card; the card has the method, its settings, the layers and the notes."""
    notes = card.pop("notes")
    base = {"fingerprint": getattr(model, "base_fingerprint", None)}
    base |= {"name": notes.pop("base_name", None)}
    if base["fingerprint"] is None:
        raise ValueError("the model has no base_fingerprint: load it with load_foundation")
    if e0s is None:
        e0s = get_e0s(model) if hasattr(model, "atomic_energies_fn") else {}
    full_card = {
        "format": FORMAT,
        **card,
        "base": base,
        "head": next(iter(getattr(model, "heads", None) or ["Default"])),
        "replay": REPLAY in (getattr(model, "heads", None) or []),
        "elements": list(e0s),
        "E0s": e0s,
        "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in SOFTWARE},
        "notes": notes,
    }
    write_bytes(folder / TENSORS, save({k: v.contiguous().cpu() for k, v in tensors.items()}))
    write_sealed(folder / CARD, full_card, [folder / TENSORS])
    return folder
