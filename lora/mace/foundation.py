"""Foundation models: load by name or file, choose the head, fingerprint."""

import logging
from functools import cache
from pathlib import Path

import torch
from torch import nn

from lora.catalogue.foundations import BY_NAME, NAMES
from lora.errors import UserError
from lora.files.sealed import check_file
from lora.mace.door import default_dtype, upstream
from lora.mace.origin import fingerprint

__all__ = ["fingerprint", "load_foundation"]
log = logging.getLogger(__name__)


def load_foundation(
    name: str | Path, head: str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Load a MACE foundation model on the CPU, with one head.

    A .model file is a pickle and runs what its author put in: open only files you trust.

    Args:
        name: A .model file, or a name that MACE knows (medium-omat-0, small, medium_off, ...).
        head: The head to keep; needed where the model has several.
        dtype: The dtype to convert the weights to; by default they stay as they are stored.

    Raises:
        UserError: There is no such name, file or head, or the file holds no MACE model.
    """
    model = _load_file(Path(name)) if Path(name).is_file() else _load_name(str(name))
    if not (hasattr(model, "interactions") and hasattr(model, "atomic_energies_fn")):
        raise UserError(f"{name}: holds a {type(model).__name__}, not a MACE model")
    model = _choose_head(model, head, name)
    model = model.to(dtype) if dtype else model
    model.eval()
    return model


def _load_file(path: Path) -> nn.Module:
    check_file(path)  # a merged model may be a base, too
    upstream("mace.modules")  # so that the classes of the pickle are found
    _warn_once("a .model file is a pickle and can run code when loaded: open only those you trust")
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a model ({error})") from None
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{path}: holds a {type(model).__name__}, not a model; give the .model file that "
            "mace_run_train saves, not a checkpoint or a state dict"
        )
    return model


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


def _load_name(name: str) -> nn.Module:
    """Fetch a model of the catalogue, or take it from MACE's cache."""
    if name not in BY_NAME:
        raise UserError(
            f"foundation.model: {name} is neither a file nor a name that MACE knows; "
            f"names: {', '.join(NAMES)}"
        )
    row = BY_NAME[name]
    zoo = upstream("mace.calculators.foundations_models")
    try:
        if row.source == "off":
            size = row.name.removesuffix("_off")
            return zoo.mace_off(model=size, device="cpu", return_raw_model=True)
        if row.source == "omol":
            return zoo.mace_omol(device="cpu", return_raw_model=True)
        return zoo.mace_mp(model=row.name, device="cpu", return_raw_model=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"foundation.model: {name} could not be fetched ({error}); download it where there "
            "is a network and give the file"
        ) from None


def _choose_head(model: nn.Module, head: str | None, name: str | Path) -> nn.Module:
    heads = list(getattr(model, "heads", None) or ["Default"])
    if head is not None and head not in heads:
        raise UserError(f"foundation.head: {head} is not in {name}; heads: {', '.join(heads)}")
    if len(heads) == 1:
        return model
    if head is None:
        raise UserError(
            f"foundation.head: {name} has several heads, choose one of: {', '.join(heads)}"
        )
    with default_dtype(next(model.parameters()).dtype):  # else float64 weights pass float32
        return upstream("mace.tools.scripts_utils").remove_pt_head(model, head)
