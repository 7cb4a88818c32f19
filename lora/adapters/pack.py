"""Packs: K adapters over one frozen base, computed together.

All that an adapter changes is linear in the features, and everything else in MACE is frozen and
acts on each atom or edge by itself.  So a batch is repeated K times as one disjoint graph, every
adapted layer multiplies each copy with the weight of its own point, and the rest of the model runs
as it is: one pass for K points.  benchmarks/README.md says when that pays.

All parameters of a point are one flat tensor, padded with zeros to the highest rank of the pack.
Zeros stay zeros in training (of LoRA by themselves, as the gradient of either factor has the other
one in it), so a point in a pack is the point alone.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.layer import Adapter
from lora.adapters.stored import Values
from lora.errors import UserError
from lora.mace.modules import replace_layer

Layers = dict[str, Adapter]


class Pack(nn.Module):
    """K points over one base.

    Attributes:
        model: The base, in which each adapted layer holds the adapters of all points.
        rows: The parameters of each point, flat, [n]: what an optimiser of that point trains.
    """

    def __init__(self, model: nn.Module, points: list[Layers]) -> None:
        """Put the adapters of several points into a model.

        Args:
            model: The base model itself, without adapters; the pack puts its layers into it.
            points: The adapters of each point by layer, as `take_adapters` returns them.

        Raises:
            UserError: The points adapt different layers or irreps, or are of a kind, or of
                several, that cannot be packed.
        """
        super().__init__()
        _check_alike(points)
        self.packed = {name: PackedLayer([layers[name] for layers in points]) for name in points[0]}
        self.rows = nn.ParameterList(
            torch.cat([layer.row(adapters[name]) for name, layer in self.packed.items()])
            for adapters in points
        )
        self.still = [
            torch.cat([layer.still(adapters[name]) for name, layer in self.packed.items()])
            if any(layer.frozen for layer in adapters.values())
            else None
            for adapters in points
        ]
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for name, layer in self.packed.items():
            replace_layer(model, name, layer)
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], points: list[int] | None = None, **options: Any
    ) -> list[dict[str, Tensor]]:
        """Return what the model gives for one batch (energy, forces, ...), for each point.

        Args:
            batch: A batch of MACE.
            points: Places in the pack, by default all; the others cost nothing.
            **options: What MACE's models take.
        """
        points = list(range(len(self.rows))) if points is None else points
        places = torch.tensor(points, device=self.rows[0].device)
        sizes = [layer.size for layer in self.packed.values()]
        columns = torch.stack([self._row(i) for i in points]).split(sizes, dim=1)
        for layer, values in zip(self.packed.values(), columns, strict=True):
            layer.values, layer.active = values, places
        out = self.model(repeated(batch, len(points)), **options)
        return _copies(out, len(points))

    def _row(self, point: int) -> Tensor:
        """Return the parameters of a point; those that do not train ask for no gradient."""
        row, still = self.rows[point], self.still[point]
        return row if still is None else torch.where(still.to(row.device), row.detach(), row)

    def places(self, point: int) -> Tensor:
        """Return which of the padded parameters are a point's own, [n], True or False.

        Args:
            point: Its place in the pack.
        """
        return torch.cat([layer.places(point) for layer in self.packed.values()])

    def layers(self, point: int) -> Layers:
        """Return the adapters of one point, as they stand now.

        Args:
            point: Its place in the pack.
        """
        row, start = self.rows[point].detach(), 0
        out = {}
        for name, packed in self.packed.items():
            out[name] = packed.layer(row[start : (start := start + packed.size)], point)
        return out

    def dissolve(self, point: int) -> nn.Module:
        """Take the pack out of the base and leave the adapter of one point on it.

        Args:
            point: Its place in the pack.
        """
        for name, layer in self.layers(point).items():
            replace_layer(self.model, name, layer)
        return self.model


class PackedLayer(nn.Module):
    """One layer of the base, with the adapters of K points.

    Attributes:
        template: An adapter of the highest rank; lends its arithmetic, not its parameters.
        values: The parameters of the active points, flat and padded, [K, size]; `Pack` sets them.
        active: The places of the active points in the pack, [K]; `Pack` sets them.
        scales: The scale of each point of the pack.
        own: What is no padding, [points, size], 1 or 0; None where padding stays zero by itself.
        size: The number of parameters of a point, padded.
    """

    def __init__(self, adapters: list[Adapter]) -> None:
        """Take the settings of the adapters.

        Args:
            adapters: The adapters of this layer, of one kind.
        """
        super().__init__()
        self.adapters = [
            (layer.rank, layer.alpha, layer.scaling, layer.started) for layer in adapters
        ]
        self.template = adapters[0].like(max(layer.width for layer in adapters))
        self.shapes = {name: value.shape for name, value in self.template.values().items()}
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        self.values = next(self.template.parameters()).new_zeros(0, self.size)
        self.active = torch.zeros(0, dtype=torch.long)
        self.scales = self.values.new_tensor([layer.scale for layer in adapters])
        pads = any(layer.width != self.template.width for layer in adapters)
        self.own: Tensor | None = None
        if pads and self.template.padding_trains:
            self.own = torch.stack([self.places(i) for i in range(len(adapters))]).to(self.scales)
        for parameter in self.template.parameters():
            parameter.requires_grad_(False)

    def row(self, layer: Adapter) -> Tensor:
        """Return the parameters of one adapter, flat and padded, [size].

        Args:
            layer: An adapter of this layer.
        """
        return self._flat(layer, layer.values())

    def still(self, layer: Adapter) -> Tensor:
        """Return which of its flat, padded parameters do not train, [size], True or False.

        Args:
            layer: An adapter of this layer.
        """
        return self._flat(layer, layer.still())

    def _flat(self, layer: Adapter, values: Values) -> Tensor:
        """Return values in the shapes of an adapter's parameters, flat and padded, [size]."""
        return torch.cat([x.flatten() for x in layer.resized(self.template.width, values).values()])

    def places(self, point: int) -> Tensor:
        """Return which of the padded parameters are a point's own, [size], True or False.

        Args:
            point: Its place in the pack.
        """
        own = self._like(point)
        own.set_values({name: torch.ones_like(x) for name, x in own.values().items()})
        return self.row(own) != 0

    def b_factors(self) -> Tensor:
        """Return which of the padded parameters `lr_ratio_b` acts on, [size], 1 or 0."""
        which = self.template.b_factors
        shapes = self.shapes.items()
        return torch.cat([self.scales.new_full(x, name in which).flatten() for name, x in shapes])

    def _named(self, values: Tensor) -> dict[str, Tensor]:
        """Return flat parameters [..., size] by name, [..., *stored shape]."""
        pieces = values.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.unflatten(-1, shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def weights(self) -> Tensor:
        """Return the changed weights of the active points, [K, ...]."""
        return self.template.base_weight() + self.changes()

    def changes(self) -> Tensor:
        """Return the changes of the base weight by the active points, [K, ...]."""
        values = self.values if self.own is None else self.values * self.own[self.active]
        return self.template.change(self._named(values), self.scales[self.active])

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the base computes with each weight for its copy, [K * n, ...]."""
        return self.template.host.run_packed(self.weights(), *inputs)

    def layer(self, row: Tensor, point: int) -> Adapter:
        """Return the adapter of one point.

        Args:
            row: Its padded parameters, [size].
            point: Its place in the pack.
        """
        self.template.set_values(self._named(row))
        out = self._like(point)
        out.set_values(self.template.resized(out.width))
        return out

    def _like(self, point: int) -> Adapter:
        """Return a new adapter with the settings of a point."""
        rank, alpha, scaling, started = self.adapters[point]
        out = self.template.like(rank, started)
        out.alpha, out.scaling = alpha, scaling
        return out

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLayer":
        super()._apply(fn, recurse)  # `to(device)` shall take what is no parameter along
        self.values, self.scales = fn(self.values), fn(self.scales)
        self.own = None if self.own is None else fn(self.own)
        return self


def repeated(batch: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    """Return a batch of MACE n times over, as one disjoint graph.

    Indices of atoms and of graphs count on from copy to copy; all else is repeated as it is.

    Args:
        batch: A batch of MACE.
        n: The number of copies.
    """
    if n == 1:
        return batch
    n_atoms, n_graphs = len(batch["batch"]), len(batch["ptr"]) - 1
    out = {}
    for key, value in batch.items():
        if not isinstance(value, Tensor):
            out[key] = value
        elif key == "edge_index":  # [2, n_edges]
            shift = n_atoms * torch.arange(n, device=value.device)
            out[key] = (value[:, None, :] + shift[:, None]).flatten(1)
        elif key == "batch":  # [n_atoms]
            shift = n_graphs * torch.arange(n, device=value.device)
            out[key] = (value + shift[:, None]).flatten()
        elif key == "ptr":  # [n_graphs + 1]
            shift = n_atoms * torch.arange(n, device=value.device)
            out[key] = torch.cat([value[:1], (value[1:] + shift[:, None]).flatten()])
        else:
            out[key] = value.repeat(n, *[1] * (value.dim() - 1)) if value.dim() else value
    return out


def _copies(out: dict[str, Tensor | None], n: int) -> list[dict[str, Tensor]]:
    """Return the part of an output that belongs to each of n copies."""
    parts = {  # split once: the gradient of each split fills a whole tensor
        key: value.chunk(n)
        for key, value in out.items()
        if isinstance(value, Tensor) and value.dim() and len(value) % n == 0
    }
    return [{key: pieces[i] for key, pieces in parts.items()} for i in range(n)]


def _check_alike(points: list[Layers]) -> None:
    """Raise an error if adapters cannot be packed together."""
    first = points[0]
    for i, layers in enumerate(points):
        if layers.keys() != first.keys():
            odd = sorted(layers.keys() ^ first.keys())[0]
            raise UserError(f"pack: point {i} and point 0 adapt different layers: {odd}")
        for name, layer in layers.items():
            if layer.kind != first[name].kind or not layer.packable:
                kinds = sorted({layer.kind, first[name].kind})
                raise UserError(f"pack: {' and '.join(kinds)} adapters cannot be trained together")
            if layer.host.parts != first[name].host.parts:
                raise UserError(f"pack: point {i} and point 0 adapt different irreps of {name}")
