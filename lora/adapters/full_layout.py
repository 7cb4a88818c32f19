"""What was trained on a base that was trimmed to some elements, in the layout of the full base."""

from collections.abc import Iterator, Mapping

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from lora.adapters.layer import Adapter
from lora.adapters.products import ContractionHost, SkipHost
from lora.adapters.stored import Values
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
    factor = _factor(trimmed, origin, name, layer)
    if factor is None:
        return values
    kept, n_full = list(origin.kept), origin.n_elements
    for key in _by_element(layer):
        parts = []
        for (rows, after, width), piece in _blocks(layer, key):
            part = piece.new_zeros(rows, n_full, after * width)
            part[:, kept] = factor * piece.reshape(rows, len(kept), after * width)
            parts.append(part.flatten())
        values[key] = torch.cat(parts)
    return values


def trimmed_values(
    trimmed: Untyped, origin: Origin, name: str, layer: Adapter, values: Values
) -> dict[str, Tensor]:
    """Return parameters in the layout of the full base as an adapter of a trimmed model has them.

    The inverse of `full_values`, for the elements that were kept.

    Args:
        trimmed: What `trim_elements` returned, with adapters.
        origin: Which elements it kept.
        name: The name of the layer.
        layer: Its adapter, of the rank of the values.
        values: {parameter: values in the stored shape of the full model}.
    """
    out = dict(values)
    factor = _factor(trimmed, origin, name, layer)
    if factor is None:
        return out
    kept, n_full = list(origin.kept), origin.n_elements
    for key in _by_element(layer):
        blocks = list(_blocks(layer, key))
        sizes = [rows * n_full * after * width for (rows, after, width), _ in blocks]
        parts = [
            part.view(rows, n_full, -1)[:, kept].flatten() / factor
            for part, ((rows, _, _), _) in zip(values[key].split(sizes), blocks, strict=True)
        ]
        out[key] = torch.cat(parts)
    return out


def _factor(trimmed: Untyped, origin: Origin, name: str, layer: Adapter) -> float | None:
    """Return what rows of elements are multiplied with in the full base; None where none are."""
    if isinstance(layer.host, SkipHost) or name.endswith(ELEMENT_LINEARS):
        return (origin.n_elements / len(origin.kept)) ** 0.5
    if isinstance(layer.host, ContractionHost) and not is_agnostic(trimmed, name):
        return 1.0
    return None


def _by_element(layer: Adapter) -> list[str]:
    """Return the parameters with a row for each element."""
    return [key for key, axes in layer.axes.items() if "inputs" in axes]


def _blocks(layer: Adapter, key: str) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
    """Yield the pieces of a parameter with (rows, what follows the element, width of a row)."""
    shapes = layer.host.element_shapes() or []
    pieces = layer.pieces(key, layer.get_parameter(key).detach())
    for (rows, _, after), (_, piece) in zip(shapes, pieces, strict=True):
        yield (rows, after, piece[0].numel()), piece


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
