"""Hosts: how a layer of MACE takes a weight.

A host shows the weight of its base layer as plain matrices, one for each irrep, and runs the
layer with another weight.  What happens to the matrices is the matter of a change
(`lora.adapters.layer.Adapter`), which knows nothing of irreps, e3nn or cuEquivariance:

    base layer  --matrices-->  {irrep: W [rows, columns]}  --assemble-->  weight in its layout

Five hosts serve every kind of adapter: `lora.adapters.hosts` lists them.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lora.mace.door import Untyped, o3

Matrices = dict[str, Tensor]  # by irrep, each [..., rows, columns]
ElementShape = tuple[int, int, int]  # rows of a stretch as [before, n_elements, after]


class Stretch(NamedTuple):
    """Inputs or outputs of one matrix that stand side by side in the base layer."""

    part: str  # the irrep, which names the matrix
    size: int


class Host(ABC):
    """A base layer and how it takes a weight.

    Rows of a matrix are inputs and columns are outputs, but where `outputs_first` says otherwise.

    Attributes:
        base: The wrapped layer; its own weight keeps its shape and layout.
        irreps: The irreps that were asked for; an empty tuple means all.
        inputs: The inputs of all adapted matrices, in the order in which a factor stores them.
        outputs: The outputs of all adapted matrices, likewise.
        parts: The names of the matrices, in the order of reports.
        switch: What has to be switched on for such layers to be adapted: equivariant, dense,
            skip_tp or symmetric_contraction.
        flat: Whether a factor is stored flat, as e3nn stores its weights, or as a matrix.
        outputs_first: Whether rows are outputs, as in `nn.Linear`.
        path_weights: Whether e3nn divides such maps by the square root of their inputs.
        by_irrep: Whether the adapted irreps can be chosen; else all count as 0e.
        reads_elements: Whether `element_shapes` holds; a linear map does not know, and is told.
    """

    switch: ClassVar[str]
    flat: ClassVar[bool] = True
    outputs_first: ClassVar[bool] = False
    path_weights: ClassVar[bool] = False
    by_irrep: ClassVar[bool] = True
    reads_elements: bool = False

    def __init__(self, base: nn.Module, irreps: tuple[str, ...] = ()) -> None:
        """Look at the base layer.

        Args:
            base: The layer.
            irreps: The irreps to adapt; an empty tuple means all.

        Raises:
            ValueError: The layer has none of the irreps.
        """
        self.base: Untyped = base
        self.irreps = irreps
        self.inputs: list[Stretch] = []
        self.outputs: list[Stretch] = []

    @classmethod
    @abstractmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True if the module is of the kind of layer that this host is for.

        Args:
            module: Any module of a model.
        """

    @classmethod
    @abstractmethod
    def irreps_of(cls, module: nn.Module) -> set[o3.Irrep]:
        """Return the irreps that can be adapted; an empty set if none can.

        Args:
            module: A module that the host takes.
        """

    @property
    def parts(self) -> list[str]:
        """The names of the matrices, in the order of reports."""
        return list(dict.fromkeys(stretch.part for stretch in self.outputs))

    @property
    def highest_rank(self) -> int:
        """The highest rank of a change: min(rows, columns) of a matrix, the largest of all."""
        rows, columns = (
            {part: sum(x.size for x in side if x.part == part) for part in self.parts}
            for side in (self.inputs, self.outputs)
        )
        return max(min(rows[part], columns[part]) for part in self.parts)

    @abstractmethod
    def matrices(self, weight: Tensor) -> Matrices:
        """Return a weight as one matrix for each adapted irrep.

        Args:
            weight: In the shape of `base_weight`.

        Returns:
            {irrep: [rows, columns]}.
        """

    @abstractmethod
    def assemble(self, matrices: Matrices) -> Tensor:
        """Return matrices in the layout of the weight, with zeros for what is not adapted.

        Args:
            matrices: {irrep: [..., rows, columns]}.

        Returns:
            [..., *shape of `base_weight`], with the leading dimensions of the matrices.
        """

    @abstractmethod
    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base layer computes with another weight.

        Args:
            weight: In the shape of `base_weight`.
            *inputs: The inputs of the base layer.
        """

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base layer computes with K weights, each for its share of the inputs.

        Args:
            weights: [K, *shape of `base_weight`].
            *inputs: [K * n, ...], K equal parts.

        Returns:
            [K * n, ...].
        """
        parts = zip(weights, *(x.chunk(len(weights)) for x in inputs), strict=True)
        return torch.cat([self.run(*part) for part in parts])

    def base_weight(self) -> Tensor:
        """Return the weight of the base layer."""
        weight: Tensor = self.base.weight
        return weight

    def set_base_weight(self, weight: Tensor) -> None:
        """Overwrite the weight of the base layer.

        Args:
            weight: In the shape of `base_weight`.
        """
        self.base.weight.copy_(weight)

    def element_shapes(self) -> list[ElementShape] | None:
        """Return the stretches of `inputs` as [before, n_elements, after].

        None where the inputs have nothing to do with elements.
        """
        return None
