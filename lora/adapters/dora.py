"""DoRA: a low-rank change of the direction of a weight, and its length for each output.

                               y
                               |
                   (1 + m) |W| / |V|        a number for each output, m starts at zero
                               |
                     V = W + s A B          as LoRA has it
                               |
                               x

    (1 + m) |W| V / |V|      for each irrep, with |.| the norm over the inputs of an output

(Liu et al., DoRA, arXiv 2402.09353.)  An output of an irrep is multiplied by one number, which
leaves the map equivariant.  Three things are chosen here:

- The paper trains the length itself; m is its relative change.  So weight decay draws the length
  to that of the base, and the adapter fits a base whose elements were trimmed away.
- The norm runs over the inputs that the adapter reads: those whose row of A is not zero.  Training
  makes no row zero.  Rows of elements that were trimmed away while it trained are, in the layout of
  the full base: they take no part in the norm and keep the base's weight.
- The gradient is the whole one.  The paper takes |V| as a constant in it, which spares memory
  where weights are large; those of MACE are small.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lora.adapters.arithmetic import times
from lora.adapters.lora import LoRA
from lora.adapters.stored import Axes, Values


class DoRA(LoRA):
    """(1 + m) |W| V / |V| with V = W + s A B; the parameters are LoRA's and `magnitude`, m."""

    kind = "dora"
    axes: ClassVar[Axes] = LoRA.axes | {"magnitude": ("outputs",)}
    linear = False
    can_be_cut = False

    def start(self, name: str, like: Tensor) -> Tensor:
        """Return m = 0, or the start of A or B."""
        return torch.zeros_like(like) if name == "magnitude" else super().start(name, like)

    def change(self, values: Values, scale: float | Tensor) -> Tensor:
        """Return the changed weight less the base's, in its layout."""
        inputs, rank = (-1, -2) if self.host.outputs_first else (-2, -1)
        base = self.host.matrices(self.base_weight())
        reads, magnitudes = (self.matrices(name, values) for name in ("lora_A", "magnitude"))
        changes = {}
        for part, product in self.products(values).items():
            w = base[part]
            v = w + times(scale, product)
            read = (reads[part] != 0).any(dim=rank, keepdim=True)  # [..., rows, 1]
            lengths = (1 + magnitudes[part]).unsqueeze(inputs) * _ratio(w, v, read, inputs)
            changes[part] = torch.where(read, lengths * v, v) - w
        return self.host.assemble(changes)


def _ratio(w: Tensor, v: Tensor, read: Tensor, inputs: int) -> Tensor:
    """Return |W| / |V| of each output; 1 for an output that is zero and has no direction.

    Args:
        w: [rows, columns].
        v: [..., rows, columns].
        read: Which inputs count, [..., rows, 1], or [..., 1, columns] where those are inputs.
        inputs: The axis of the inputs.
    """
    of_w, of_v = (
        torch.linalg.vector_norm(torch.where(read, x, 0.0), dim=inputs, keepdim=True)
        for x in (w, v)
    )
    some = (of_w > 0) & (of_v > 0)
    return torch.where(some, of_w / torch.where(some, of_v, 1.0), 1.0)
