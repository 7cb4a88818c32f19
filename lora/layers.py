"""The three LoRA layers: a frozen base layer plus a low-rank change of its weight.

All three compute the merged weight `W + s A B` and call the base layer's arithmetic once with
it.  That is a small product of weights instead of a second pass over atoms or edges, gradients
reach A and B by autograd alone, nothing is cached, and `merge` writes exactly what was used.

    Hu et al., LoRA, arXiv 2106.09685;  Kalajdzievski, rank-stabilised LoRA, arXiv 2312.03732
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lora._upstream import FCLayer, o3
from lora.config import SCALINGS

INIT_STD = 1e-3  # of A; B starts at zero, so training starts from the base model


class LoRALayer(nn.Module, ABC):
    """What the three layers share.  A subclass says what its weight change is.

    base:    the wrapped layer, frozen; its own weight keeps its shape and layout
    lora_A, lora_B: the trained factors, in the layout of `base`
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, scaling: str) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
        self.base = base
        self.rank, self.alpha, self.scaling = rank, float(alpha), scaling
        self.enabled = True  # see lora.algebra.disabled
        for parameter in base.parameters():
            parameter.requires_grad_(False)

    def _add_factors(self, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> None:
        like = {"dtype": self.base.weight.dtype, "device": self.base.weight.device}
        self.lora_A = nn.Parameter(torch.randn(shape_a, **like) * INIT_STD)
        self.lora_B = nn.Parameter(torch.zeros(shape_b, **like))

    @property
    def scale(self) -> float:
        """s of `W + s A B`, before e3nn's path weights: alpha/r, or alpha/sqrt(r)."""
        return self.alpha / (self.rank if self.scaling == "mace" else math.sqrt(self.rank))

    @abstractmethod
    def delta(self) -> Tensor:
        """The change of the base weight, in its shape."""

    def weight(self) -> Tensor:
        """The merged weight, `W + delta`; the base's own while the adapter is disabled."""
        base: Tensor = self.base.weight
        return base + self.delta() if self.enabled else base

    def merge(self) -> nn.Module:
        """Write the merged weight into the base layer and return that layer."""
        with torch.no_grad():
            self.base.weight.copy_(self.weight())
        return self.base

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}, scaling={self.scaling}"


def shared_irreps(irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> set[o3.Irrep]:
    """Irreps that occur in both: what a linear map can connect."""
    return {ir for _, ir in irreps_in} & {ir for _, ir in irreps_out}


class Path(NamedTuple):
    """One block of an equivariant weight: where it lies in A and B, and its shape."""

    in_a: slice
    in_b: slice
    shape: tuple[int, int]  # (mul_in, mul_out)
    coefficient: float  # pw_A pw_B / pw_base for `mace`, 1 for `rank_stable`
    gap: int  # numbers of W before this block that no path covers


class LoRAO3Linear(LoRALayer):
    """LoRA of an `e3nn.o3.Linear`; equivariant because it stays one.

    The bottleneck has `rank` copies of each irrep that input and output share, so that
    A: irreps_in -> bottleneck and B: bottleneck -> irreps_out are equivariant linear maps.
    Their composition is one equivariant linear map with the per-path weight
    `W + s (pw_A pw_B / pw_base) A B`, where pw are e3nn's path weights, 1/sqrt(fan-in).

    `irreps` keeps the bottleneck to some of the shared irreps; the others are not adapted.

    Raises ValueError if input and output share no irrep.
    """

    def __init__(
        self,
        base: o3.Linear,
        rank: int = 4,
        alpha: float = 1.0,
        scaling: str = "mace",
        irreps: tuple[str, ...] = (),
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        self.irreps_in, self.irreps_out = base.irreps_in, base.irreps_out
        shared = shared_irreps(self.irreps_in, self.irreps_out)
        if irreps:
            shared &= {o3.Irrep(ir) for ir in irreps}
        if not shared:
            raise ValueError(f"{self.irreps_in} and {self.irreps_out} share no irrep")
        self.bottleneck = o3.Irreps([(rank, ir) for ir in sorted(shared)])
        self.in_a: dict[int, slice] = {}  # where A keeps the rows of an input, by its index
        self.in_b: dict[int, slice] = {}  # and B the columns of an output
        self.paths, size_a, size_b = self._paths()
        self._add_factors((size_a,), (size_b,))

    def _paths(self) -> tuple[list[Path], int, int]:
        """Lay out A and B as e3nn would: one block a pair of equal irreps, input-major."""
        fan_in: dict[object, int] = {}  # of an irrep of the bottleneck
        size_a = size_b = 0
        for i_in, (mul, ir) in enumerate(self.irreps_in):
            if ir in self.bottleneck:
                self.in_a[i_in] = slice(size_a, size_a := size_a + mul * self.rank)
                fan_in[ir] = fan_in.get(ir, 0) + mul
        for _, ir in self.bottleneck:
            for i_out, (mul, ir_out) in enumerate(self.irreps_out):
                if ir == ir_out:
                    self.in_b[i_out] = slice(size_b, size_b := size_b + self.rank * mul)

        paths, gap = [], 0
        for ins in self.base.instructions:
            if ins.i_in < 0:  # a bias
                continue
            mul_in, mul_out = ins.path_shape
            ir = self.irreps_in[ins.i_in].ir
            if ir not in self.bottleneck:
                gap += mul_in * mul_out
                continue
            path_weights = fan_in[ir] ** -0.5 * self.rank**-0.5 / ins.path_weight
            paths.append(
                Path(
                    in_a=self.in_a[ins.i_in],
                    in_b=self.in_b[ins.i_out],
                    shape=(mul_in, mul_out),
                    coefficient=path_weights if self.scaling == "mace" else 1.0,
                    gap=gap,
                )
            )
            gap = 0
        self.tail = gap
        return paths, size_a, size_b

    def factors(self, path: Path) -> tuple[Tensor, Tensor]:
        """A [mul_in, rank] and B [rank, mul_out] of one path."""
        a = self.lora_A[path.in_a].view(path.shape[0], self.rank)
        b = self.lora_B[path.in_b].view(self.rank, path.shape[1])
        return a, b

    def delta(self) -> Tensor:
        blocks = []
        for path in self.paths:
            if path.gap:  # blocks of the weight that are not adapted
                blocks.append(self.lora_A.new_zeros(path.gap))
            a, b = self.factors(path)
            blocks.append((self.scale * path.coefficient) * (a @ b).flatten())
        if self.tail:
            blocks.append(self.lora_A.new_zeros(self.tail))
        return torch.cat(blocks)  # [weight_numel]

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x, self.weight())  # [..., irreps_out.dim]


class LoRADenseLinear(LoRALayer):
    """LoRA of an `nn.Linear`: W [out, in] + s B A, with A [rank, in] and B [out, rank]."""

    def __init__(
        self, base: nn.Linear, rank: int = 4, alpha: float = 1.0, scaling: str = "mace"
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        self.in_features, self.out_features = base.in_features, base.out_features
        self._add_factors((rank, base.in_features), (base.out_features, rank))

    def delta(self) -> Tensor:
        return self.scale * (self.lora_B @ self.lora_A)  # [out, in]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight(), self.base.bias)  # [..., out]


class LoRAFCLayer(LoRALayer):
    """LoRA of a layer of e3nn's `FullyConnectedNet`: W [in, out] + s A B.

    The base layer divides its weight by sqrt(fan-in) and scales its activation; the same is
    done here with the merged weight, because it takes no weight from outside.
    """

    def __init__(
        self, base: FCLayer, rank: int = 4, alpha: float = 1.0, scaling: str = "mace"
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        n_in, n_out = base.weight.shape
        self._add_factors((n_in, rank), (rank, n_out))

    def delta(self) -> Tensor:
        return self.scale * (self.lora_A @ self.lora_B)  # [in, out]

    def forward(self, x: Tensor) -> Tensor:
        base = self.base
        x = x @ (self.weight() / math.sqrt(base.h_in * base.var_in))  # [..., out]
        if base.act is not None:
            x = base.act(x)
        return x * math.sqrt(base.var_out)
