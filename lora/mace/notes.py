"""What we note on a model; a conversion keeps it, a saved model has none of it."""

from typing import Any

from torch import nn

NOTES = ("base_fingerprint", "kept_elements", "base_elements", "lora_injection")


def note(model: nn.Module, **values: Any) -> None:
    """Note values on a model.

    Args:
        model: The model, which is changed in place.
        **values: The values by their names, which are those of `NOTES`.
    """
    for name, value in values.items():
        setattr(model, name, value)


def without_notes(model: nn.Module) -> nn.Module:
    """Return the model itself, without what we note on it: as it is saved.

    Args:
        model: The model, which is changed in place.
    """
    for name in NOTES:
        model.__dict__.pop(name, None)
    return model
