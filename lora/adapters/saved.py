"""Adapters as files: adapter.safetensors has the tensors, adapter.json all else.

An adapter is bound to the weights of its base by their digest (`lora.mace.origin`), computed when
it is injected and again when it is loaded, and stored in the layout of the full foundation model,
also where training ran on one trimmed to fewer elements.  So `load_adapter` needs nothing but the
foundation model.  Modules that trained as a whole (`modules_to_save`) lie in the same file, in the
layout in which they trained; loading puts the rows of the elements into the full base.
"""

import logging
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lora.adapters.before import before, inside
from lora.adapters.full_layout import full_values, full_weights
from lora.adapters.inject import (
    Injection,
    check_sound,
    inject,
    injection_of,
    lora_layers,
    unload_lora,
)
from lora.adapters.kinds import KINDS
from lora.adapters.sound import path_of
from lora.errors import UserError
from lora.files.sealed import check_file, read_json, write_bytes, write_sealed
from lora.mace.elements import elements, get_e0s, restore_elements, set_e0s
from lora.mace.heads import two_heads
from lora.mace.origin import Origin, changed, digests, fingerprint, noted, origin_of
from lora.plan.earlier import CARD, TENSORS
from lora.plan.targets import Targets

log = logging.getLogger(__name__)

FORMAT = 1
WEIGHTS = "weights"  # the method of a card whose tensors are whole weights
SOFTWARE = ("mace-lora-sweep", "mace-torch", "e3nn", "torch")


def save_adapter(
    model: nn.Module, folder: str | Path, e0s: dict[str, float] | None = None, **notes: Any
) -> Path:
    """Write the adapters of an injected model to a folder.

    Args:
        model: A model that `inject_lora` was called on, trained or not; of any make, trimmed to
            some elements or not.
        folder: The folder; it is made if need be.
        e0s: The E0s (eV) of the fine-tuned elements; by default those of the elements that the
            model knows.
        **notes: Anything that JSON can hold, kept under "notes".

    Returns:
        The folder; what was saved there before is replaced as a whole.

    Raises:
        ValueError: The model holds no adapters, one that is not finite or switched off, or a base
            whose weights changed since the injection.
    """
    how = asdict(injection_of(model))
    check_sound(model)
    origin = _origin_of(model)
    tensors: dict[str, Any] = {}
    for name, layer in lora_layers(model):
        values = full_values(model, origin, name, layer) if origin.kept else layer.values()
        tensors |= {f"{name}.{key}": value.detach() for key, value in values.items()}
    tensors |= {name: model.get_parameter(name).detach() for name in before(model).weights}
    card = {"method": how.pop("kind"), **how, "layers": [name for name, _ in lora_layers(model)]}
    if before(model).weights and origin.kept:
        card["trimmed_to"] = [chemical_symbols[z] for z in elements(model)]
    return _write(model, origin, path_of(folder), tensors, card | {"notes": notes}, e0s)


def _origin_of(model: nn.Module) -> Origin:
    """Return the base of a model with adapters, once it is clear that it is still that base."""
    instead = before(model).weights
    origin = noted(model)
    if origin is None:  # out of a pickle, which is not believed
        return Origin(fingerprint(model, instead), digests(model, instead))
    if name := changed(model, origin, instead):
        raise ValueError(
            f"{name} of the base changed since the adapters were injected, so they belong to no "
            "base that exists: keep the base frozen, or inject into the changed one"
        )
    return origin


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
    return _write(model, origin_of(base), Path(folder), tensors, card, e0s)


def load_adapter(model: nn.Module, folder: str | Path) -> dict[str, Any]:
    """Put a saved adapter, and the E0s it was trained with, on its foundation model, in place.

    `unload_lora` takes it off again.

    Args:
        model: The foundation model that the adapter was trained on, however it was loaded.
        folder: What `save_adapter` wrote.

    Returns:
        The contents of adapter.json.

    Raises:
        UserError: The files are missing or damaged, or the model is another one: of other weights
            or scale and shift, the one that the adapter was merged into, or trimmed.
        ValueError: The model holds adapters already.
    """
    card = read_card(folder)
    origin = check_base(model, card, folder)
    if card.get("replay") and not origin.second_head:
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
    origin = check_base(model, card, folder)
    model = two_heads(model) if card.get("replay") and not origin.second_head else model
    attach(model, card, folder)
    return model


def check_base(model: nn.Module, card: dict[str, Any], folder: str | Path) -> Origin:
    """Return which base a model is, by the weights that are there now, if it is the adapter's.

    Args:
        model: The model.
        card: The contents of adapter.json.
        folder: The folder of the adapter, for the message.

    Raises:
        UserError: It is another model.
        ValueError: It holds adapters.
    """
    if dict(lora_layers(model)):
        raise ValueError("the model holds LoRA layers already: merge or unload them first")
    origin = origin_of(model)
    found = origin.base
    if found != card["base"]["fingerprint"]:
        name = card["base"].get("name")
        raise UserError(
            f"{folder}: this adapter belongs to the base {card['base']['fingerprint']}"
            f"{f' ({name})' if name else ''}, the model given is {found}; "
            "load it onto the foundation model it was trained on, with the weights of that time"
        )
    if origin.kept:
        raise UserError(
            f"{folder}: the model given is trimmed to some elements; load the adapter onto the "
            "full foundation model"
        )
    return origin


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
    dtype = next(model.parameters()).dtype
    if str(dtype) != f"torch.{card['dtype']}":
        log.warning("%s: trained in %s, loaded into a %s model", folder, card["dtype"], dtype)
    state = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{path}: {name} is not finite; train this point again")
    try:
        _load_state(model, state, card, folder)
    except RuntimeError as error:  # of torch, where modules of a trimmed model do not fit
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: does not fit the model ({reason})") from None


def _load_state(
    model: nn.Module, state: dict[str, Tensor], card: dict[str, Any], folder: str | Path
) -> None:
    """Put tensors on a model, which is as it was where they do not fit."""
    adapts = not holds_weights(card)
    if adapts:
        how = _injection_of(card, folder)
        if symbols := card.get("trimmed_to"):
            whole = {n: x for n, x in state.items() if not inside(n, card["layers"])}
            state = state | full_weights(model, whole, symbols)
        inject(model, how)
    try:
        expected = _expected(model, card)
        own = {name: tensor.shape for name, tensor in model.state_dict().items()}
        odd = sorted(set(expected) ^ state.keys())
        odd += [name for name in expected if own.get(name) != state[name].shape] if not odd else []
        if odd:
            raise UserError(f"{folder}/{TENSORS}: does not fit the model at {odd[0]}")
        model.load_state_dict(state, strict=False)
        if card["E0s"]:
            set_e0s(model, card["E0s"])
    except BaseException:
        if adapts:
            unload_lora(model)
        raise


def read_card(folder: str | Path) -> dict[str, Any]:
    """Return the contents of adapter.json.

    Args:
        folder: The folder of an adapter.

    Raises:
        UserError: The file is missing, damaged or of another format.
    """
    path = path_of(folder) / CARD
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
    factors = [f"{name}.{key}" for name, layer in lora_layers(model) for key in layer.axes]
    return [*factors, *before(model).weights]


def _write(
    model: nn.Module,
    origin: Origin,
    folder: Path,
    tensors: dict[str, Tensor],
    card: dict[str, Any],
    e0s: dict[str, float] | None,
) -> Path:
    """Write tensors and card; the card has the method, its settings, the layers and the notes."""
    notes = card.pop("notes")
    if e0s is None:
        e0s = get_e0s(model) if hasattr(model, "atomic_energies_fn") else {}
    full_card = {
        "format": FORMAT,
        **card,
        "base": {"fingerprint": origin.base, "name": notes.pop("base_name", None)},
        "head": next(iter(getattr(model, "heads", None) or ["Default"])),
        "replay": origin.second_head,
        "elements": list(e0s),
        "E0s": e0s,
        "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in SOFTWARE},
        "notes": notes,
    }
    _replace(folder, save({k: v.contiguous().cpu() for k, v in tensors.items()}), full_card)
    return folder


def _replace(folder: Path, tensors: bytes, card: dict[str, Any]) -> None:
    """Write both files of a folder, or leave it as it was; a kill between them leaves no card."""
    beside = folder / ".part"
    try:
        write_bytes(beside / TENSORS, tensors)
        write_sealed(beside / CARD, card, [beside / TENSORS])
        (folder / CARD).unlink(missing_ok=True)
        for name in (TENSORS, CARD):
            (beside / name).replace(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
