"""Foundation models: load by name or file, with one head; fingerprint."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from lora.mace.heads import REPLAY
from lora.mace.loading import choose_head, fetch, read_model
from lora.mace.notes import note


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
        UserError: There is no such name, file or head, or the file holds no MACE model that can
            be fine-tuned.
    """
    model, _ = read_model(name if Path(name).is_file() else fetch(str(name)))
    model = choose_head(model, head, name)
    model = model.to(dtype) if dtype else model
    model.eval()
    note(model, "base_fingerprint", fingerprint(model))
    return model


def base_digest(model: nn.Module) -> str:
    """Return the digest of the foundation model that a model is, or was made from.

    It is computed from the weights that are there.  Only where they are not the foundation
    model's any more (trimmed, on other kernels, with a second head, with adapters) is it what was
    noted before.

    Args:
        model: A MACE model, or what was made from one.
    """
    noted: str | None = getattr(model, "base_fingerprint", None)
    if noted is not None and (
        hasattr(model, "kept_elements")
        or REPLAY in (getattr(model, "heads", None) or [])
        or any(_is_changed(module) for module in model.modules())
    ):
        return noted
    return fingerprint(model)


def _is_changed(module: nn.Module) -> bool:
    """Return True for an adapter, and for a layer of other kernels than e3nn's."""
    kernels = ("cuequivariance_torch", "openequivariance")
    return hasattr(module, "is_adapter") or type(module).__module__.startswith(kernels)


def fingerprint(model: nn.Module) -> str:
    """Return a digest of the weights, not of the file: 16 hex digits of SHA-256.

    Floats count in float32, so that a base keeps its digest when it is converted to float64.
    E0s are left out, because fine-tuning replaces them.

    Args:
        model: A MACE model.
    """
    digest = hashlib.sha256()
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    buffers = ("atomic_numbers", "r_max", "scale_shift.scale", "scale_shift.shift")
    tensors |= {n: b for n, b in model.named_buffers() if n in buffers}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
