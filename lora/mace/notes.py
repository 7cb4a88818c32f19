"""Attributes that this package sets on a model; conversions keep them, saved models have none."""

from torch import nn

NOTES = ("base_fingerprint", "kept_elements", "base_elements", "lora_injection")


def note(model: nn.Module, name: str, value: object) -> None:
    """Set one of the notes on a model.

    Args:
        model: The model.
        name: One of `NOTES`.
        value: What is noted.
    """
    assert name in NOTES
    setattr(model, name, value)


def without_notes(model: nn.Module) -> nn.Module:
    """Take the notes off a model, as it is saved.

    Args:
        model: The model.

    Returns:
        The same model.
    """
    for name in NOTES:
        model.__dict__.pop(name, None)
    return model
