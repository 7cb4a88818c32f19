"""What all LoRA layers share: a frozen base layer plus a low-rank change of its weight.

All of them compute the merged weight `W + s A B` and call the base layer's arithmetic once with
it.  That is a small product of weights instead of a second pass over atoms or edges, gradients
reach A and B by autograd alone, nothing is cached, and `merge` writes exactly what was used.

A pack (`lora.adapters.pack`) gives the same arithmetic K weights at once, for K inputs.

    Hu et al., LoRA, arXiv 2106.09685;  Kalajdzievski, rank-stabilised LoRA, arXiv 2312.03732
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lora.catalogue.methods import SCALINGS

INIT_STD = 1e-3  # of A; B starts at zero, so training starts from the base model


class LoRALayer(nn.Module, ABC):
    """What all LoRA layers share.  A subclass says what A B is and how the base uses a weight.

    base:    the wrapped layer, frozen; its own weight keeps its shape and layout
    lora_A, lora_B: the trained factors, always in e3nn's layout
    """

    equivariant = False  # whether B is an e3nn map, whose path weight is 1/sqrt(rank)

    def __init__(self, base: nn.Module, rank: int, alpha: float, scaling: str) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
        self.base = base
        self.rank, self.alpha, self.scaling = rank, float(alpha), scaling
        self.enabled = True  # see lora.adapters.algebra.disabled
        for parameter in base.parameters():
            parameter.requires_grad_(False)

    def _add_factors(self, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
        example = next(self.base.parameters())
        like = {"dtype": example.dtype, "device": example.device}
        self.lora_A = nn.Parameter(torch.randn(shape_a, **like) * INIT_STD)
        self.lora_B = nn.Parameter(torch.zeros(shape_b, **like))

    @property
    def scale(self) -> float:
        """s of `W + s A B`: alpha/sqrt(r), or MACE's alpha/r with e3nn's path weights in it.

        Those of A and of the base cancel, since both read the same inputs; that of B, 1/sqrt(r),
        stays.  So with scaling `mace` an equivariant layer has alpha/r^1.5, a dense one alpha/r.
        """
        if self.scaling == "rank_stable":
            return self.alpha / math.sqrt(self.rank)
        return self.alpha / (self.rank**1.5 if self.equivariant else self.rank)

    @abstractmethod
    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """A B in the layout of the base weight; leading dimensions of both are kept."""

    @abstractmethod
    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """What the base computes, with another weight."""

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """K weights [K, ...] on inputs [K n, ...] that are K equal parts, a weight each."""
        parts = zip(weights, *(x.chunk(len(weights)) for x in inputs), strict=True)
        return torch.cat([self.run(*part) for part in parts])

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(self.weight(), *inputs)

    def base_weight(self) -> Tensor:
        """The frozen weight."""
        weight: Tensor = self.base.weight
        return weight

    def set_base_weight(self, weight: Tensor) -> None:
        """Overwrite the frozen weight."""
        self.base.weight.copy_(weight)

    def delta(self) -> Tensor:
        """The change of the base weight, in its shape."""
        return self.scale * self.product(self.lora_A, self.lora_B)

    def weight(self) -> Tensor:
        """The merged weight, `W + delta`; the base's own while the adapter is disabled."""
        return self.base_weight() + self.delta() if self.enabled else self.base_weight()

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Write the merged weight into the base layer and return that layer."""
        self.set_base_weight(self.weight())
        return self.base

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}, scaling={self.scaling}"
