"""Another adapter in the place of the one that a model has, or the same one as before."""

from pathlib import Path
from typing import Any

from torch import nn

from lora.adapters.before import NOTE as BEFORE
from lora.adapters.before import Before, before
from lora.adapters.inject import injection_of, lora_layers, unload_lora
from lora.adapters.saved import holds_weights, load_adapter, read_card
from lora.errors import UserError
from lora.mace.modules import replace_layer
from lora.mace.origin import note


def swap_adapter(model: nn.Module, folder: str | Path) -> dict[str, Any]:
    """Put a saved adapter on a model in the place of the one that it has, if any, in place.

    What was trained and not saved of the old one is gone, unless the new one is refused: then the
    model is as it was.  The parameters are other objects than before, so an optimiser of the old
    ones has to be made anew.

    Args:
        model: The foundation model of both, with adapters or without.
        folder: What `save_adapter` wrote.

    Returns:
        The contents of adapter.json.

    Raises:
        UserError: As for `load_adapter`; or the folder holds whole weights, which overwrite the
            base, so that nothing could be swapped any more.
        ValueError: The adapters are switched off.
    """
    if holds_weights(read_card(folder)):
        raise UserError(
            f"{folder}: holds whole weights, which overwrite the base; load it with load_adapter "
            "onto a foundation model of its own"
        )
    layers = dict(lora_layers(model))
    if not layers:
        return load_adapter(model, folder)
    how, was = injection_of(model), before(model)
    now = Before.of(model, list(was.weights))
    unload_lora(model)
    try:
        return load_adapter(model, folder)
    except BaseException:
        for name, layer in layers.items():
            replace_layer(model, name, layer)
        note(model, "lora_injection", how)
        note(model, BEFORE, was)
        now.put_back(model)
        raise
