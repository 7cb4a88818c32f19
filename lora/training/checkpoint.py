"""Checkpoints: one file for all points of a pack, so that no kill can part them."""

import logging
from pathlib import Path
from typing import Any

import torch

from lora.errors import out_of_memory
from lora.files.sealed import read_headed, write_torch

log = logging.getLogger(__name__)

FILE = "checkpoint.pt"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all, with its checksum."""
    write_torch(path, state, head=True)


def read_checkpoint(path: Path, device: str) -> dict[str, Any]:
    """Return a checkpoint with its tensors on a device; {} where there is none, or it is damaged.

    Reading it runs no code: only tensors and plain values are taken.
    """
    if not path.is_file():
        return {}
    try:
        state: dict[str, Any] = torch.load(
            read_headed(path), map_location=device, weights_only=True
        )
    except Exception as error:
        if out_of_memory(error):
            raise
        what = type(error).__name__  # torch's own words advise to load it unsafely
        log.warning("%s cannot be read (%s): starting again", path, what)
        return {}
    return state
