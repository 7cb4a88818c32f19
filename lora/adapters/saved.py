"""Adapters as files: adapter.safetensors (the tensors) and adapter.json (all else).

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

from lora.adapters.full_layout import full_lora_a
from lora.adapters.inject import inject_lora, injection_settings, lora_layers
from lora.errors import UserError
from lora.files.sealed import check_file, read_json, write_bytes, write_sealed
from lora.mace.elements import get_e0s, restore_elements, set_e0s
from lora.mace.foundation import fingerprint
from lora.mace.heads import REPLAY, two_heads

log = logging.getLogger(__name__)

FORMAT = 1
TENSORS, CARD = "adapter.safetensors", "adapter.json"
SOFTWARE = ("mace-lora-sweep", "mace-torch", "e3nn", "torch")


def save_adapter(
    model: nn.Module, folder: str | Path, e0s: dict[str, float] | None = None, **notes: Any
) -> Path:
    """Write the adapters of an injected model to `folder`.

    Args:
        model: injected by `inject_lora`, trained or not, trimmed to some elements or not
        folder: made if need be
        e0s: of the fine-tuned elements (eV); default those of the elements the model knows
        **notes: anything that json can hold, kept under "notes"

    Returns: the folder.  Raises ValueError if the model holds no LoRA layers.
    """
    settings = injection_settings(model)
    tensors = {}
    for name, layer in lora_layers(model):
        trimmed = hasattr(model, "kept_elements")
        a = full_lora_a(model, name, layer) if trimmed else layer.lora_A.detach()
        tensors[f"{name}.lora_A"], tensors[f"{name}.lora_B"] = a, layer.lora_B.detach()
    card = {"method": "lora", **settings, "layers": [name for name, _ in lora_layers(model)]}
    return _write(model, Path(folder), tensors, card, notes, e0s)


def save_weights(
    model: nn.Module,
    base: nn.Module,
    folder: str | Path,
    e0s: dict[str, float] | None = None,
    **notes: Any,
) -> Path:
    """Write whole weights in place of adapters: all that was trained of a trimmed `model`.

    What `full` and `freeze` points keep, in the layout of their foundation model `base`;
    `load_adapter` reads it as it reads an adapter.
    """
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    state = restore_elements(model, base).state_dict()
    tensors = {name: state[name].detach() for name in trained}
    return _write(
        model, Path(folder), tensors, {"method": "weights", "layers": trained}, notes, e0s
    )


def load_adapter(model: nn.Module, folder: str | Path) -> dict[str, Any]:
    """Put a saved adapter, and the E0s it was trained with, on its foundation model, in place.

    Args:
        model: the foundation model that the adapter was trained on, as `load_foundation` gives it
        folder: what `save_adapter` wrote

    Returns: the contents of adapter.json.

    Raises UserError: the files are missing or damaged, or the model is another one.
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
    """The foundation model with a saved adapter on it; of one trained with replay, with two heads.

    Takes the model over.  Raises UserError as `load_adapter` does.
    """
    card = read_card(folder)
    check_base(model, card, folder)
    model = two_heads(model) if card.get("replay") else model
    attach(model, card, folder)
    return model


def check_base(model: nn.Module, card: dict[str, Any], folder: str | Path) -> None:
    """Raises UserError if the model is not the one that an adapter was trained on."""
    found = getattr(model, "base_fingerprint", None) or fingerprint(model)
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
    """
    path = Path(folder) / TENSORS
    check_file(path)
    try:
        tensors = load_file(path)
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({error}); train this point again") from None
    if card["method"] == "lora":
        inject_lora(model, **{k: card[k] for k in _INJECTION})
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
    """The contents of adapter.json.  Raises UserError if missing, damaged or of another format."""
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


_INJECTION = ("rank", "alpha", "scaling", "wrap_equivariant", "wrap_dense", "targets")


def _expected(model: nn.Module, card: dict[str, Any]) -> list[str]:
    if card["method"] != "lora":
        return list(card["layers"])
    return [f"{name}.lora_{x}" for name, _ in lora_layers(model) for x in "AB"]


def _write(
    model: nn.Module,
    folder: Path,
    tensors: dict[str, Tensor],
    card: dict,
    notes: dict,
    e0s: dict[str, float] | None = None,
) -> Path:
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
