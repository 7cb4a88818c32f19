"""What we note on a model; a conversion keeps it, a saved model has none of it."""

from torch import nn

NOTES = ("base_fingerprint", "kept_elements", "base_elements", "lora_injection")


def without_notes(model: nn.Module) -> nn.Module:
    """Return the model itself, without what we note on it: as it is saved."""
    for name in NOTES:
        model.__dict__.pop(name, None)
    return model
