"""The factor A of a layer of a trimmed model, in the layout of its full base."""

import torch
from torch import Tensor, nn

from lora.adapters.layer import LoRALayer
from lora.adapters.products import LoRAContraction, LoRASkipTP
from lora.mace.elements import ELEMENT_LINEARS, is_agnostic


def full_lora_a(trimmed: nn.Module, name: str, layer: LoRALayer) -> Tensor:
    """The factor A of a layer of a trimmed model, in the layout of its full base.

    Where A has a row an element, the elements that were trimmed away get zeros.  e3nn divides a
    linear map by sqrt(fan-in), and the number of elements is a factor of that: made up for.
    """
    a = layer.lora_A.detach()
    n_kept, n_full = len(trimmed.kept_elements), trimmed.base_elements
    if isinstance(layer, LoRASkipTP):
        rows, factor = layer.element_rows(), (n_full / n_kept) ** 0.5
    elif name.endswith(ELEMENT_LINEARS):
        rows, factor = [(slice(None), (1, n_kept, layer.rank))], (n_full / n_kept) ** 0.5
    elif isinstance(layer, LoRAContraction) and not is_agnostic(trimmed, name):
        rows, factor = layer.element_rows(), 1.0
    else:
        return a
    parts = []
    for where, (before, _, after) in rows:
        part = a.new_zeros(before, n_full, after)
        part[:, trimmed.kept_elements] = factor * a[where].view(before, n_kept, after)
        parts.append(part.flatten())
    return torch.cat(parts)
