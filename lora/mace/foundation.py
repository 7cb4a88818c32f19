"""Foundation models: load by name or file, with one head; fingerprint."""

from pathlib import Path

import torch
from torch import nn

from lora.mace.loading import choose_head, fetch, heads_of, read_model
from lora.mace.origin import fingerprint

__all__ = ["fingerprint", "load_foundation"]


def load_foundation(
    name: str | Path,
    head: str | None = None,
    dtype: torch.dtype | None = None,
    usual: str | None = None,
) -> nn.Module:
    """Load a MACE foundation model on the CPU, with one head.

    A .model file is a pickle and runs what its author put in: open only files you trust.

    Args:
        name: A .model file, or a name that MACE knows (medium-omat-0, small, medium_off, ...).
        head: The head to keep; needed where the model has several.
        dtype: The dtype to convert the weights to; by default they stay as they are stored.
        usual: The head to keep where the model has several and `head` is None.

    Raises:
        UserError: There is no such name, file or head, or the file holds no MACE model that can
            be fine-tuned.
        TypeError: An argument is of another type.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(
            f"name must be a .model file or the name of a model, got {type(name).__name__}"
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, as torch.float64, got {dtype!r}")
    model, _ = read_model(name if Path(name).is_file() else fetch(str(name)))
    head = usual if head is None and len(heads_of(model)) > 1 else head
    model = choose_head(model, head, name)
    model = model.to(dtype) if dtype else model
    model.eval()
    return model
