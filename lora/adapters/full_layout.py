"""The parameters of an adapter of a trimmed model, in the layout of its full base."""

import torch
from torch import Tensor

from lora.adapters.layer import Adapter
from lora.adapters.products import ContractionHost, SkipHost
from lora.mace.door import Untyped
from lora.mace.elements import ELEMENT_LINEARS, is_agnostic


def full_values(trimmed: Untyped, name: str, layer: Adapter) -> dict[str, Tensor]:
    """Return the parameters of an adapter of a trimmed model in the layout of its full base.

    Where a parameter has a row for each element, the elements that were trimmed away get zeros.
    e3nn divides a linear map by sqrt(fan-in), which the number of elements is a factor of; the
    rows make up for that.

    Args:
        trimmed: What `trim_elements` returned, with adapters.
        name: The name of the layer.
        layer: Its adapter.

    Returns:
        {parameter: values in the stored shape of the full model}.
    """
    values = {key: value.detach() for key, value in layer.values().items()}
    shapes = layer.host.element_shapes()
    n_kept, n_full = len(trimmed.kept_elements), trimmed.base_elements
    if isinstance(layer.host, SkipHost) or name.endswith(ELEMENT_LINEARS):
        factor = (n_full / n_kept) ** 0.5
    elif isinstance(layer.host, ContractionHost) and not is_agnostic(trimmed, name):
        factor = 1.0
    else:
        return values
    for key in (key for key, axes in layer.axes.items() if "inputs" in axes):
        parts = []
        pieces = layer.pieces(key, values[key])
        for (before, _, after), (_, piece) in zip(shapes or [], pieces, strict=True):
            width = piece[0].numel()
            part = piece.new_zeros(before, n_full, after * width)
            part[:, trimmed.kept_elements] = factor * piece.reshape(before, n_kept, after * width)
            parts.append(part.flatten())
        values[key] = torch.cat(parts)
    return values
