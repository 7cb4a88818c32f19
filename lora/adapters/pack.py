"""Packs: K adapters over one frozen base, computed together.

All that a LoRA adapts is linear, and everything else in MACE is frozen and acts on each atom or
edge by itself.  So a batch is repeated K times as one disjoint graph, every adapted layer
multiplies each copy with the weight of its own point, and the rest of the model runs as it is:
one pass for K points.  benchmarks/README.md says when that pays.

All factors of a point are one flat tensor, padded with zeros to the highest rank of the pack.
Zeros stay zeros in training (the gradient of either factor has the other one in it), so a point
in a pack is the point alone.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.layer import LoRALayer
from lora.adapters.spectra import factor_pairs, like, set_pairs
from lora.errors import UserError
from lora.mace.modules import replace_layer

Layers = dict[str, LoRALayer]


class Pack(nn.Module):
    """K LoRA points over one base.

    model:  the base, in which each adapted layer holds the adapters of all points
    rows:   the factors of each point, flat, [n]; what an optimiser of that point trains

    Args:
        model: the base model itself, without adapters; the pack puts its layers into it
        points: of each point, its LoRA layers by name, as `take_adapters` gives them

    Raises UserError: the points adapt different layers or irreps.
    """

    def __init__(self, model: nn.Module, points: list[Layers]) -> None:
        super().__init__()
        _check_alike(points)
        self.packed = {name: PackedLayer([layers[name] for layers in points]) for name in points[0]}
        self.rows = nn.ParameterList(
            torch.cat([layer.row(adapters[name]) for name, layer in self.packed.items()])
            for adapters in points
        )
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for name, layer in self.packed.items():
            replace_layer(model, name, layer)
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], points: list[int] | None = None, **options: Any
    ) -> list[dict[str, Tensor]]:
        """What the model gives for one batch (energy, forces, ...), for each of the points.

        `points` are places in the pack, default all; the others cost nothing.
        """
        points = list(range(len(self.rows))) if points is None else points
        places = torch.tensor(points, device=self.rows[0].device)
        sizes = [layer.size for layer in self.packed.values()]
        columns = torch.stack([self.rows[i] for i in points]).split(sizes, dim=1)
        for layer, values in zip(self.packed.values(), columns, strict=True):
            layer.values, layer.active = values, places
        out = self.model(repeated(batch, len(points)), **options)
        return [_copy_of(out, i, len(points)) for i in range(len(points))]

    def layers(self, point: int) -> Layers:
        """The LoRA layers of one point, as they stand now."""
        row, start = self.rows[point].detach(), 0
        out = {}
        for name, packed in self.packed.items():
            out[name] = packed.layer(row[start : (start := start + packed.size)], point)
        return out

    def dissolve(self, point: int) -> nn.Module:
        """Take the pack out of the base and leave the adapter of one point on it."""
        for name, layer in self.layers(point).items():
            replace_layer(self.model, name, layer)
        return self.model


class PackedLayer(nn.Module):
    """One layer of the base, with the adapters of K points.

    template: a LoRA layer of the highest rank; lends its arithmetic, not its factors
    values:   A and B of the active points, flat and padded, [K, size]; `Pack` sets both
    """

    def __init__(self, adapters: list[LoRALayer]) -> None:
        super().__init__()
        self.adapters = [(layer.rank, layer.alpha, layer.scaling) for layer in adapters]
        rank = max(layer.rank for layer in adapters)
        self.template = like(adapters[0], rank)
        self.size_a = self.template.lora_A.numel()
        self.size = self.size_a + self.template.lora_B.numel()
        self.values = self.template.lora_A.new_zeros(0, self.size)
        self.active = torch.zeros(0, dtype=torch.long)  # places in the pack
        self.scales = self.values.new_tensor([layer.scale for layer in adapters])
        for parameter in self.template.parameters():
            parameter.requires_grad_(False)

    def row(self, layer: LoRALayer) -> Tensor:
        """A and B of one adapter, flat and padded, [size]."""
        set_pairs(self.template, factor_pairs(layer))
        a, b = self.template.lora_A, self.template.lora_B
        return torch.cat([a.detach().flatten(), b.detach().flatten()])

    def weights(self) -> Tensor:
        """The merged weights of all points, [K, ...]."""
        t, n = self.template, len(self.values)
        a = self.values[:, : self.size_a].unflatten(1, t.lora_A.shape)
        b = self.values[:, self.size_a :].unflatten(1, t.lora_B.shape)
        product = t.product(a, b)  # [K, ...]
        base = t.base_weight()
        scales = self.scales[self.active].view(n, *[1] * base.dim())
        return base + scales * product.view(n, *base.shape)

    def forward(self, *inputs: Tensor) -> Tensor:
        weights = self.weights()
        if len(weights) == 1:
            return self.template.run(weights[0], *inputs)
        return self.template.run_packed(weights, *inputs)  # [K * n, ...]

    def layer(self, row: Tensor, point: int) -> LoRALayer:
        """The LoRA layer of one point, from its padded factors."""
        rank, alpha, scaling = self.adapters[point]
        with torch.no_grad():
            for factor, values in (
                (self.template.lora_A, row[: self.size_a]),
                (self.template.lora_B, row[self.size_a :]),
            ):
                factor.copy_(values.view_as(factor))
        out = like(self.template, rank)
        out.alpha, out.scaling = alpha, scaling
        pairs = factor_pairs(self.template)
        set_pairs(out, {part: (a[:, :rank], b[:rank]) for part, (a, b) in pairs.items()})
        return out

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedLayer":
        super()._apply(fn, recurse)  # `to(device)` shall take what is no parameter along
        self.values, self.scales = fn(self.values), fn(self.scales)
        return self


def repeated(batch: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    """A batch of MACE n times over, as one disjoint graph.

    Indices of atoms and of graphs count on from copy to copy; all else is repeated as it is.
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


def _copy_of(out: dict[str, Tensor | None], i: int, n: int) -> dict[str, Tensor]:
    """The part of an output that belongs to copy i of n."""
    return {
        key: value.chunk(n)[i]
        for key, value in out.items()
        if isinstance(value, Tensor) and value.dim() and len(value) % n == 0
    }


def _check_alike(points: list[Layers]) -> None:
    first = points[0]
    for i, layers in enumerate(points):
        if layers.keys() != first.keys():
            odd = sorted(layers.keys() ^ first.keys())[0]
            raise UserError(f"pack: point {i} and point 0 adapt different layers: {odd}")
        for name, layer in layers.items():
            if factor_pairs(layer).keys() != factor_pairs(first[name]).keys():
                raise UserError(f"pack: point {i} and point 0 adapt different irreps of {name}")
