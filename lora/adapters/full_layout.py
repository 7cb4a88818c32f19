"""What was trained on a base that was trimmed to some elements, in the layout of the full base."""

from collections.abc import Mapping

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from lora.adapters.layer import Adapter
from lora.adapters.products import ContractionHost, SkipHost
from lora.mace.door import Untyped
from lora.mace.elements import ELEMENT_LINEARS, is_agnostic, restore_elements, trim_elements
from lora.mace.origin import Origin


def full_values(trimmed: Untyped, origin: Origin, name: str, layer: Adapter) -> dict[str, Tensor]:
    """Return the parameters of an adapter of a trimmed model in the layout of its full base.

    Where a parameter has a row for each element, the elements that were trimmed away get zeros.
    e3nn divides a linear map by sqrt(fan-in), which the number of elements is a factor of; the
    rows make up for that.

    Args:
        trimmed: What `trim_elements` returned, with adapters.
        origin: Which elements it kept.
        name: The name of the layer.
        layer: Its adapter.

    Returns:
        {parameter: values in the stored shape of the full model}.
    """
    values = {key: value.detach() for key, value in layer.values().items()}
    shapes = layer.host.element_shapes()
    kept, n_full = list(origin.kept), origin.n_elements
    if isinstance(layer.host, SkipHost) or name.endswith(ELEMENT_LINEARS):
        factor = (n_full / len(kept)) ** 0.5
    elif isinstance(layer.host, ContractionHost) and not is_agnostic(trimmed, name):
        factor = 1.0
    else:
        return values
    for key in (key for key, axes in layer.axes.items() if "inputs" in axes):
        parts = []
        pieces = layer.pieces(key, values[key])
        for (rows, _, after), (_, piece) in zip(shapes or [], pieces, strict=True):
            width = piece[0].numel()
            part = piece.new_zeros(rows, n_full, after * width)
            part[:, kept] = factor * piece.reshape(rows, len(kept), after * width)
            parts.append(part.flatten())
        values[key] = torch.cat(parts)
    return values


def full_weights(
    base: nn.Module, weights: Mapping[str, Tensor], symbols: list[str]
) -> dict[str, Tensor]:
    """Return whole weights of a trimmed model in the layout of its full base.

    Where a weight has a row for each element, the others keep the base's.

    Args:
        base: The base, without adapters.
        weights: Weights of the trimmed model by name.
        symbols: The elements that it kept.

    Raises:
        RuntimeError: The weights do not fit.
    """
    part = trim_elements(base, [atomic_numbers[symbol] for symbol in symbols])
    part.load_state_dict(weights, strict=False)
    full = restore_elements(part, base).state_dict()
    return {name: full[name] for name in weights}
