"""The three LoRA layers of linear maps: e3nn's, dense ones, and those of `FullyConnectedNet`."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lora.adapters.layer import LoRALayer
from lora.mace.door import FCLayer, is_cueq, o3
from lora.mace.fast.autograd import join
from lora.mace.modules import irreps_of, shared_irreps


class Block(NamedTuple):
    """One matrix of an equivariant weight, from one input irrep to an equal output irrep."""

    i_in: int
    i_out: int
    rows: int  # inputs
    columns: int  # outputs


class LoRAO3Linear(LoRALayer):
    """LoRA of an `e3nn.o3.Linear` or `cuet.Linear`; equivariant because it stays one.

    The bottleneck has `rank` copies of each irrep that input and output share, so that
    A: irreps_in -> bottleneck and B: bottleneck -> irreps_out are equivariant linear maps.
    Their composition is one equivariant linear map with the weight `W + s A B`.

    `irreps` keeps the bottleneck to some of the shared irreps; the others are not adapted.

    Raises ValueError if input and output share no irrep, or for a base of other path weights
    than e3nn's default, 1/sqrt(fan-in).
    """

    equivariant = True

    def __init__(
        self,
        base: nn.Module,
        rank: int = 4,
        alpha: float = 1.0,
        scaling: str = "mace",
        irreps: tuple[str, ...] = (),
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        self.irreps_in, self.irreps_out = self._irreps()
        shared = shared_irreps(self.irreps_in, self.irreps_out)
        if irreps:
            shared &= {o3.Irrep(ir) for ir in irreps}
        if not shared:
            raise ValueError(f"{self.irreps_in} and {self.irreps_out} share no irrep")
        self.bottleneck = o3.Irreps([(rank, ir) for ir in sorted(shared)])
        self.blocks = self._blocks()  # all of the base, adapted or not
        self.fan_in: dict[str, int] = {}  # by irrep
        self.in_a: dict[int, slice] = {}  # where A keeps the rows of an input, by its index
        self.in_b: dict[int, slice] = {}  # and B the columns of an output
        rows = {block.i_in: block.rows for block in self.blocks}
        size_a = size_b = 0
        for i, n in sorted(rows.items()):
            ir = self.irreps_in[i].ir
            self.fan_in[str(ir)] = self.fan_in.get(str(ir), 0) + n
            if ir in self.bottleneck:
                self.in_a[i] = slice(size_a, size_a := size_a + n * rank)
        for _, ir in self.bottleneck:
            for i, (mul, ir_out) in enumerate(self.irreps_out):
                if ir == ir_out:
                    self.in_b[i] = slice(size_b, size_b := size_b + rank * mul)
        self._check_path_weights()
        self._add_factors((size_a,), (size_b,))

    def _irreps(self) -> tuple[o3.Irreps, o3.Irreps]:
        return irreps_of(self.base)

    def _blocks(self) -> list[Block]:
        """The matrices in the order of the flat weight, which e3nn and cuEquivariance share."""
        inputs, outputs = enumerate(self.irreps_in), list(enumerate(self.irreps_out))
        return [
            Block(i, j, self._rows(mul), mul_out)
            for i, (mul, ir) in inputs
            for j, (mul_out, ir_out) in outputs
            if ir == ir_out
        ]

    def _rows(self, mul: int) -> int:
        return mul

    def _check_path_weights(self) -> None:
        """e3nn's own instructions must say what `_blocks` and `scale` take for granted."""
        if is_cueq(self.base):
            return
        instructions = [ins for ins in self.base.instructions if ins.i_in >= 0]  # else a bias
        for block, ins in zip(self.blocks, instructions, strict=True):
            usual = self.fan_in[str(self.irreps_in[block.i_in].ir)] ** -0.5
            shape = (block.i_in, block.i_out, block.rows, block.columns)
            if shape != (ins.i_in, ins.i_out, *ins.path_shape) or (
                abs(ins.path_weight / usual - 1) > 1e-6
            ):
                raise ValueError(f"{self.base}: has other paths than e3nn's default: {ins}")

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        parts = []
        for block in self.blocks:
            if block.i_in not in self.in_a:  # not adapted
                parts.append(a.new_zeros(*a.shape[:-1], block.rows * block.columns))
                continue
            left = a[..., self.in_a[block.i_in]].unflatten(-1, (block.rows, self.rank))
            right = b[..., self.in_b[block.i_out]].unflatten(-1, (self.rank, block.columns))
            parts.append((left @ right).flatten(-2))  # [..., rows * columns]
        return torch.cat(parts, dim=-1)  # [..., weight_numel]

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        if is_cueq(self.base):  # takes no weight from outside, and stores it as [1, weight_numel]
            own = {"weight": weight.view_as(self.base.weight)}
            out: Tensor = functional_call(self.base, own, inputs)
            return out
        return self.base(*inputs, weight)  # [..., irreps_out.dim]

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        (x,), packed = inputs, len(weights)
        cueq = is_cueq(self.base)
        x = self.base.transpose_in(x) if cueq else x  # to ir_mul
        weights = weights.view(packed, -1)
        x = x.view(packed, -1, x.shape[-1])  # [K, n, irreps_in.dim]
        sums: dict[int, Tensor] = {}
        features_of = x.split([mul * ir.dim for mul, ir in self.irreps_in], dim=-1)
        own = weights.split([block.rows * block.columns for block in self.blocks], dim=1)
        for block, w in zip(self.blocks, own, strict=True):
            mul, ir = self.irreps_in[block.i_in]
            features = features_of[block.i_in]
            if cueq:
                features = features.unflatten(-1, (ir.dim, mul))
            else:
                features = features.unflatten(-1, (mul, ir.dim)).transpose(-1, -2)
            w = w.view(packed, block.rows, block.columns)
            y = features.flatten(1, 2) @ (w * self.fan_in[str(ir)] ** -0.5)  # [K, n * dim, mul]
            sums[block.i_out] = sums[block.i_out] + y if block.i_out in sums else y
        parts = []
        for i, (mul, ir) in enumerate(self.irreps_out):
            if i not in sums:
                parts.append(x.new_zeros(x.shape[0] * x.shape[1], mul * ir.dim))
                continue
            y = sums[i].view(-1, ir.dim, mul)  # [K * n, dim, mul]
            parts.append((y if cueq else y.transpose(1, 2)).flatten(1))
        out = join(*parts)  # [K * n, irreps_out.dim]
        if cueq:
            out = self.base.transpose_out(out)
        elif self.base.bias_numel:  # constant, so what the base makes of nothing
            out = out + self.base(x.new_zeros(1, x.shape[-1]))
        return out

    def delta(self) -> Tensor:
        return super().delta().view_as(self.base.weight)


class LoRADenseLinear(LoRALayer):
    """LoRA of an `nn.Linear`: W [out, in] + s B A, with A [rank, in] and B [out, rank]."""

    def __init__(
        self, base: nn.Linear, rank: int = 4, alpha: float = 1.0, scaling: str = "mace"
    ) -> None:
        super().__init__(base, rank, alpha, scaling)
        self._add_factors((rank, base.in_features), (base.out_features, rank))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return b @ a  # [..., out, in]

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return nn.functional.linear(x, weight, self.base.bias)  # [..., out]

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        out = _each(weights.transpose(1, 2), *inputs)  # [K * n, out]
        return out if self.base.bias is None else out + self.base.bias


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

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b  # [..., in, out]

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        (x,), base = inputs, self.base
        return self._activate(x @ (weight / math.sqrt(base.h_in * base.var_in)))  # [..., out]

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        base = self.base
        return self._activate(_each(weights / math.sqrt(base.h_in * base.var_in), *inputs))

    def _activate(self, x: Tensor) -> Tensor:
        x = x if self.base.act is None else self.base.act(x)
        return x * math.sqrt(self.base.var_out)


def _each(weights: Tensor, x: Tensor) -> Tensor:
    """x [K * n, in] in K equal parts, each times its own weight [in, out]."""
    parts = x.view(len(weights), -1, x.shape[-1])
    return torch.bmm(parts, weights).flatten(0, 1)  # [K * n, out]
