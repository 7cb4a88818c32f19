"""Several models of one kind as one module: one pass for all of them.

As in a pack of adapters (`lora.adapters.pack`), a batch has an equal part for each model.  What the
models have in common acts on all of it.  A layer in which they differ gives each part to the weight
of its own model: linear maps by one product for all, others one after the other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.host import Host
from lora.adapters.hosts import host_class
from lora.mace.door import Untyped
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.modules import replace_layer

# modules, beside hosts, of which each row of the result comes of the same row of the inputs
BY_ROW = {
    "AtomicEnergiesBlock",
    "BesselBasis",
    "Embedding",
    "FoldedContractions",
    "LayerNorm",
    "ScaleShiftBlock",
    "SymmetricContraction",
}
PLAIN = (bool, int, float, str)  # types of settings that a module keeps


class Joined(nn.Module):
    """Models of one kind.

    Attributes:
        model: The first of them, in which each layer that differs holds those of all.
        parts: The layers that differ, by name.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        """Join models, which are changed in place and cannot be used any more.

        Args:
            models: The models.

        Raises:
            ValueError: They are not of one kind, or differ in what cannot be joined.
        """
        super().__init__()
        different = _different(models)
        if any("symmetric_contractions" in name for name in different):
            for model in models:  # each its own, while they are MACE's
                fold(model)
            different = _different(models)
        self.parts: dict[str, _Part] = {}
        for name in [name for name, _ in models[0].named_modules()]:
            own = {x for x in different if x.startswith(f"{name}.")}
            if own and (part := _part_of([x.get_submodule(name) for x in models], name, own)):
                self.parts[name] = part
                different -= own
        if different:
            raise ValueError(f"models differ in {min(different)}, which cannot be joined")
        for name, part in self.parts.items():
            replace_layer(models[0], name, part)
        fuse(models[0])
        fold(models[0])
        self.model: Untyped = models[0].requires_grad_(False)

    def forward(self, batch: dict[str, Tensor], models: list[int]) -> dict[str, Tensor | None]:
        """Return what MACE computes for a batch: energy (eV), forces (eV/Å), ...

        Args:
            batch: A batch of MACE, in equal parts.
            models: The places of the models of the parts.
        """
        for part in self.parts.values():
            part.active = models
        out: dict[str, Tensor | None] = self.model(batch, training=False)
        return out


class _Part(nn.Module):
    """A layer in which the models differ.  Attribute `active`: the places of models at work."""

    active: list[int]


class _Product(_Part):
    """A linear map with a weight of each model."""

    def __init__(self, host: Host, weights: Tensor) -> None:
        super().__init__()
        self.host = host
        self.register_buffer("weights", weights)  # [K, *shape of the weight]

    def forward(self, *inputs: Tensor) -> Tensor:
        weights: Tensor = self.get_buffer("weights")
        return self.host.run_packed(weights[self.active], *inputs)


class _Each(_Part):
    """A layer of each model."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Tensor:
        parts = zip(*(x.chunk(len(self.active)) for x in inputs), strict=True)
        layers = [self.layers[i] for i in self.active]
        return torch.cat([f(*x) for f, x in zip(layers, parts, strict=True)])


def _different(models: Sequence[nn.Module]) -> set[str]:
    """Return the names of the tensors that differ between models.

    Raises ValueError: they differ in more than tensors.
    """
    first, *others = (model.state_dict() for model in models)
    kinds = [_kind(model) for model in models]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("models are not of one kind")
    return {
        name
        for name, value in first.items()
        if not all(torch.equal(value, state[name]) for state in others)
    }


def _kind(model: nn.Module) -> list[Any]:
    """Return what models of one kind share: modules, their numbers and words, shapes of tensors."""
    shapes = [(name, value.shape) for name, value in model.state_dict().items()]
    return shapes + [
        (
            name,
            type(module).__name__,
            {k: v for k, v in vars(module).items() if isinstance(v, PLAIN)},
        )
        for name, module in model.named_modules()
    ]


def _part_of(layers: list[nn.Module], name: str, own: set[str]) -> _Part | None:
    """Return a layer of all models; None for one that cannot be joined.

    Args:
        layers: The layer of each model.
        name: Its name.
        own: The names of its tensors that differ.
    """
    host = host_class(layers[0])  # all of which act on each row by itself
    by_row = type(layers[0]).__name__ in BY_ROW
    if host and not by_row and own == {f"{name}.weight"}:
        weights = torch.stack([host(layer).base_weight().detach() for layer in layers])
        return _Product(host(layers[0]), weights)
    return _Each(layers) if host or by_row else None
