"""The parameters of an adapter: as they are stored, flat or not, and as matrices by irrep."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lora.adapters.arithmetic import joined
from lora.adapters.host import Host

Axis = Literal["inputs", "rank", "outputs"]
Axes = dict[str, tuple[Axis, ...]]  # of the parameters of a kind, by name
Values = Mapping[str, Tensor]  # parameters of a layer by name, as they are stored


class Stored(nn.Module):
    """What knows the layout of the parameters of one layer.

    Class attributes that a kind sets:
        axes: The axes of each parameter: inputs or outputs of a matrix, or neither, and rank.

    Attributes:
        host: How the base layer takes a weight; it says which irreps there are, and in what order.
        rank: The rank of the change.
        frozen: How many columns of the rank do not train: they take away what the start added.
    """

    axes: ClassVar[Axes]
    host: Host
    rank: int
    frozen: int

    @property
    def width(self) -> int:
        """The columns of the rank that are stored: those that train and those that are frozen."""
        return self.rank + self.frozen

    def values(self) -> dict[str, Tensor]:
        """Return the trained parameters by name."""
        return {name: self.get_parameter(name) for name in self.axes}

    def still(self) -> dict[str, Tensor]:
        """Return which entries of the parameters do not train, True or False, as stored."""
        found = {}
        for name, value in self.values().items():
            found[name] = torch.zeros_like(value, dtype=torch.bool)
            axes = self._axes(name)
            for _, piece in self.pieces(name, found[name]) if "rank" in axes else ():
                piece.narrow(axes.index("rank"), 0, self.frozen).fill_(True)
        return found

    @property
    def n_still(self) -> int:
        """The number of entries that do not train."""
        return sum(int(x.sum()) for x in self.still().values()) if self.frozen else 0

    def matrices(self, name: str, values: Values) -> dict[str, Tensor]:
        """Return a parameter by irrep, oriented as the matrices of the host are.

        Args:
            name: The name of the parameter.
            values: What holds it, with leading dimensions or without.

        Returns:
            {irrep: [..., inputs, rank]} for axes ("inputs", "rank"), and so on; reversed where
            the host has its outputs first. One entry "" where the axes are neither.
        """
        axes = self._axes(name)
        along = [i - len(axes) for i, axis in enumerate(axes) if axis != "rank"]
        return {
            part: joined(pieces, along[0]) if along else pieces[0]
            for part, pieces in self.stretches(name, values).items()
        }

    def stretches(self, name: str, values: Values) -> dict[str, list[Tensor]]:
        """Return what `matrices` joins: a piece for each stretch of inputs or outputs.

        Args:
            name: The name of the parameter.
            values: What holds it, with leading dimensions or without.
        """
        found: dict[str, list[Tensor]] = {}
        for part, piece in self.pieces(name, values[name]):
            found.setdefault(part, []).append(piece)
        return {part: found[part] for part in ["", *self.host.parts] if part in found}

    def pieces(self, name: str, value: Tensor) -> list[tuple[str, Tensor]]:
        """Return views of a stored parameter, a piece for each stretch of the host, in order.

        Args:
            name: The name of the parameter.
            value: [..., *stored shape].

        Returns:
            The irrep of each piece, "" where there is none, and the piece.
        """
        shapes = self._shapes(name)
        if not self.host.flat and shapes[0][0]:
            return [(shapes[0][0], value)]
        sizes = [math.prod(shape) for _, shape in shapes]
        return [
            (part, piece.unflatten(-1, shape) if len(shape) > 1 else piece)
            for (part, shape), piece in zip(shapes, value.split(sizes, dim=-1), strict=True)
        ]

    def resized(self, width: int, values: Values | None = None) -> dict[str, Tensor]:
        """Return the parameters at another width: padded with zeros, or without the last columns.

        Args:
            width: The columns of the rank.
            values: What is resized in place of the parameters, in their stored shapes.
        """
        out = {}
        for name, value in (values or self.values()).items():
            axes, stored = self._axes(name), value.detach()
            pieces = [piece for _, piece in self.pieces(name, stored)]
            if "rank" in axes and width != self.width:
                along = axes.index("rank")
                padding = [0, 0] * (len(axes) - 1 - along) + [0, width - self.width]
                pieces = [nn.functional.pad(piece, padding) for piece in pieces]
            flat = torch.cat([piece.flatten() for piece in pieces])
            out[name] = flat.view(self._stored_shape(name, width))
        return out

    @torch.no_grad()
    def set_values(self, values: Values) -> None:
        """Overwrite parameters.

        Args:
            values: {name: values in the stored shape}.
        """
        for name, value in values.items():
            self.get_parameter(name).copy_(value)

    def _axes(self, name: str) -> tuple[Axis, ...]:
        """Return the axes of a parameter in the order in which this host has them."""
        return self.axes[name][::-1] if self.host.outputs_first else self.axes[name]

    def _shapes(self, name: str, width: int | None = None) -> list[tuple[str, tuple[int, ...]]]:
        """Return the irrep and the shape of each piece of a stored parameter."""
        axes = self._axes(name)
        sides = {"inputs": self.host.inputs, "outputs": self.host.outputs}
        stretches = next((sides[axis] for axis in axes if axis in sides), None)
        size = self.width if width is None else width
        if stretches is None:
            return [("", tuple(size for _ in axes) or (1,))]
        return [(s.part, tuple(size if a == "rank" else s.size for a in axes)) for s in stretches]

    def _stored_shape(self, name: str, width: int | None = None) -> tuple[int, ...]:
        shapes = self._shapes(name, width)
        if not self.host.flat and shapes[0][0]:
            return shapes[0][1]
        return (sum(math.prod(shape) for _, shape in shapes),)
