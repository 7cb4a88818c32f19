"""Which base a model is: its weights say so, and of copies of a base, the steps that made them.

A base is told by a digest of the weights that are there.  A copy that was trimmed, runs on other
kernels or has a second head has other weights, so the step that makes the copy notes on it which
base it came from (`pass_on`).  Such a note holds only while the weights are those that the step
left, and only in memory: copies keep it, but a pickle does not, so no file can claim to be a base.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

NOTE = "lora_origin"
NOTES = (NOTE, "lora_injection", "lora_before")  # attributes that we set; saved models have none
BUFFERS = ("atomic_numbers", "r_max", "scale_shift.scale", "scale_shift.shift")


@dataclass(frozen=True)
class Origin:
    """From which base a model came, and how.

    Attributes:
        base: The fingerprint of the base.
        weights: The digest of each weight of the model, as it was made.
        kept: The places in the base of the elements that trimming kept; empty where it is whole.
        n_elements: The number of elements of the base; 0 where it is whole.
        second_head: Whether it was given a second head, for replay.
    """

    base: str
    weights: Mapping[str, str]
    kept: tuple[int, ...] = ()
    n_elements: int = 0
    second_head: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Origin":
        """Return itself: a copy of a model has the same origin."""
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Return how to pickle it: as None."""
        return type(None), ()


def fingerprint(model: nn.Module, instead: Mapping[str, Tensor] | None = None) -> str:
    """Return a digest of the weights, not of the file: 16 hex digits of SHA-256.

    Floats count in float32, so that a base keeps its digest when it is converted to float64.
    E0s are left out, because fine-tuning replaces them; scale and shift are in it.  Of a model
    with adapters it is the digest of the frozen base.

    Args:
        model: A MACE model.
        instead: Weights that count in place of the model's, by name.
    """
    total = hashlib.sha256()
    for name, tensor in _base_tensors(model, instead or {}):
        for part in _content(name, tensor):
            total.update(part)
    return total.hexdigest()[:16]


def digests(model: nn.Module, instead: Mapping[str, Tensor] | None = None) -> dict[str, str]:
    """Return a digest of each weight that `fingerprint` counts, by name.

    Args:
        model: A MACE model.
        instead: As for `fingerprint`.
    """
    return {
        name: hashlib.sha256(b"".join(_content(name, tensor))).hexdigest()[:16]
        for name, tensor in _base_tensors(model, instead or {})
    }


def _base_tensors(model: nn.Module, instead: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Return the weights that count, sorted by the names that they have without adapters."""
    adapters = [n for n, module in model.named_modules() if getattr(module, "is_adapter", False)]
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for owner in adapters:
        inside = [name for name in tensors if name.startswith(f"{owner}.")]
        for name in inside:
            weight, rest = tensors.pop(name), name.removeprefix(f"{owner}.")
            if rest.startswith("base."):
                tensors[f"{owner}.{rest.removeprefix('base.')}"] = weight
    tensors |= {name: buffer for name, buffer in model.named_buffers() if name in BUFFERS}
    tensors |= instead
    return sorted(tensors.items())


def _content(name: str, tensor: Tensor) -> tuple[bytes, bytes]:
    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return f"{name} {tuple(tensor.shape)}".encode(), tensor.contiguous().numpy().tobytes()


def noted(model: nn.Module) -> Origin | None:
    """Return the origin that was noted on a model, whether its weights are the same or not.

    Args:
        model: Any model.
    """
    found = getattr(model, NOTE, None)
    return found if isinstance(found, Origin) else None


def changed(
    model: nn.Module, origin: Origin, instead: Mapping[str, Tensor] | None = None
) -> str | None:
    """Return the name of a weight that is not as the origin says, None if all are.

    Weights that are not there any more do not count: folded contractions have none.

    Args:
        model: A model.
        origin: What was noted on it.
        instead: As for `fingerprint`.
    """
    now = digests(model, instead).items()
    return next((name for name, value in now if origin.weights.get(name) != value), None)


def origin_of(model: nn.Module) -> Origin:
    """Return which base a model is, computed from the weights that are there.

    A copy that one of our steps made of a base is that base while its weights are as they were
    made; any other model is a base of its own.

    Args:
        model: A MACE model, with adapters or without.
    """
    found = noted(model)
    if found is not None and changed(model, found) is None:
        return found
    return Origin(fingerprint(model), digests(model))


def pass_on(origin: Origin, made: nn.Module, **how: Any) -> None:
    """Note on a model that it was made from a base.

    Args:
        origin: That of the model that it was made from.
        made: The model.
        **how: Attributes of `Origin` that are other ones now.
    """
    note(made, NOTE, replace(origin, weights=digests(made), **how))


def note(model: nn.Module, name: str, value: object) -> None:
    """Set one of our attributes on a model.

    Args:
        model: The model.
        name: One of `NOTES`.
        value: What is noted.
    """
    assert name in NOTES
    setattr(model, name, value)


def without_notes(model: nn.Module) -> nn.Module:
    """Take what this package notes on a model off it, as it is saved.

    Args:
        model: The model.

    Returns:
        The same model.
    """
    for name in NOTES:
        model.__dict__.pop(name, None)
    return model
