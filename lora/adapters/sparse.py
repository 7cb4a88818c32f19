"""Sparse: a change of a few entries of a weight, the rest stays the base's.

      outputs
    D . . . D D        W [rows, columns]     frozen
    D D . . . D  +     D                     `rank` entries for each input, start at zero
    D D D . . .
    . D D D . .        W + s D  for each irrep that input and output share
    . . D D D .        s = alpha/r, or alpha/sqrt(r) with the scaling rank_stable

Input i of n reaches the `rank` outputs from the one at i/n of them on, round about: diagonals of
the matrix.  Inputs and outputs are then all reached evenly, and a lower rank has a part of the
entries of a higher one.  All elements have the same entries.

That a few path weights of an equivariant model are enough: arXiv 2606.18691, which finds them in
training.  Here the shape alone says which: Xu and Zhang (arXiv 2405.02596) match LoRA with entries
drawn at random.  The largest of the base would be others once it is merged, or rounded to float32,
and what was saved would land on the wrong ones.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lora.adapters.arithmetic import joined, times
from lora.adapters.layer import Adapter
from lora.adapters.stored import Axes, Values


class Sparse(Adapter):
    """W + s D, where D has `rank` entries for each input; the parameter is `entries`."""

    kind = "sparse"
    axes: ClassVar[Axes] = {"entries": ("inputs", "rank")}
    linear = True
    padding_trains = True

    @property
    def scale(self) -> float:
        """S of the change: alpha/r, or alpha/sqrt(r); there is no bottleneck with path weights."""
        stable = self.scaling == "rank_stable"
        return self.alpha / (math.sqrt(self.rank) if stable else self.rank)

    @property
    def highest_rank(self) -> int:
        """The highest rank that adds entries: all outputs."""
        return max(self._outputs().values())

    def start(self, name: str, like: Tensor) -> Tensor:
        """Return D = 0."""
        return torch.zeros_like(like)

    def change(self, values: Values, scale: float | Tensor) -> Tensor:
        """Return s D in the layout of the base weight."""
        outputs, found = self._outputs(), dict[str, list[Tensor]]()
        pieces = self.pieces("entries", values["entries"])
        for i, (part, piece) in enumerate(pieces):
            entries = piece.mT if self.host.outputs_first else piece  # [..., inputs, rank]
            entries = entries[..., : outputs[part]]  # above that rank there are no more
            dense = entries.new_zeros(*entries.shape[:-1], outputs[part])
            places = self._places(i, outputs[part], entries.shape[-1]).to(entries.device)
            dense = dense.scatter(-1, places.expand(entries.shape), entries)
            found.setdefault(part, []).append(dense)
        whole = {part: joined(found[part], dim=-2) for part in self.host.parts}
        if self.host.outputs_first:
            whole = {part: matrix.mT for part, matrix in whole.items()}
        return times(scale, self.host.assemble(whole))

    def scale_by(self, factor: float) -> None:
        """Multiply the change of the weight by a factor, in place."""
        self.entries.mul_(factor)

    def _outputs(self) -> dict[str, int]:
        """Return the number of outputs of each irrep."""
        sides = self.host.outputs
        return {part: sum(x.size for x in sides if x.part == part) for part in self.host.parts}

    def _places(self, i: int, n_outputs: int, rank: int) -> Tensor:
        """Return the outputs that each input of a stretch reaches, [inputs, rank]."""
        before, n_elements, after = self.host.inputs[i].size, 1, 1
        if self.host.reads_elements:
            before, n_elements, after = (self.host.element_shapes() or [])[i]
        numbers = torch.arange(before * after).view(before, 1, after)
        first = numbers.expand(before, n_elements, after).flatten() * n_outputs // (before * after)
        return (first[:, None] + torch.arange(rank)) % n_outputs
