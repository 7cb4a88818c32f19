"""Hosts of linear maps: e3nn's, dense ones, and the layers of `FullyConnectedNet`."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lora.adapters.host import Host, Matrices, Stretch
from lora.mace.door import FCLayer, Untyped, is_cueq, o3
from lora.mace.fast.autograd import join
from lora.mace.modules import irreps_of, shared_irreps


class Block(NamedTuple):
    """One matrix of an equivariant weight, from one input irrep to an equal output irrep."""

    i_in: int
    i_out: int
    rows: int  # inputs
    columns: int  # outputs


class O3Host(Host):
    """An `e3nn.o3.Linear` or `cuet.Linear`.

    Irreps that stand several times in the input or output are one matrix.

    Attributes:
        irreps_in: The irreps of the input.
        irreps_out: The irreps of the output.
        shared: The adapted irreps, sorted; input and output have them both.
        blocks: The pieces of the flat weight in its order, adapted or not.
        fan_in: The number of inputs of each irrep, which e3nn divides the map by the root of.
    """

    switch = "equivariant"
    path_weights = True

    def __init__(self, base: Untyped, irreps: tuple[str, ...] = ()) -> None:
        """Look at the irreps and the weight of the base layer.

        Args:
            base: The layer.
            irreps: The irreps to adapt; an empty tuple means all that input and output share.

        Raises:
            ValueError: Input and output share none of them, or the base has other path weights
                than e3nn's default, 1/sqrt(fan-in).
        """
        super().__init__(base, irreps)
        self.irreps_in, self.irreps_out = self._irreps()
        shared = shared_irreps(self.irreps_in, self.irreps_out)
        if irreps:
            shared &= {o3.Irrep(ir) for ir in irreps}
        if not shared:
            raise ValueError(f"{self.irreps_in} and {self.irreps_out} share no irrep")
        self.shared = sorted(shared)
        self.blocks = self._blocks()
        rows = {block.i_in: block.rows for block in self.blocks}
        self.fan_in: dict[str, int] = {}
        for i, n in sorted(rows.items()):
            ir = self.irreps_in[i].ir
            self.fan_in[str(ir)] = self.fan_in.get(str(ir), 0) + n
            if ir in shared:
                self.inputs.append(Stretch(str(ir), n))
        self.outputs = [
            Stretch(str(ir), mul)
            for ir in self.shared
            for mul, ir_out in self.irreps_out
            if ir == ir_out
        ]
        self._check_path_weights()
        self._places = [self._place(block) for block in self.blocks]

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True for a linear map of e3nn or cuEquivariance."""
        named = type(module).__name__ == "Linear"
        return named and (is_cueq(module) or isinstance(module, o3.Linear))

    @classmethod
    def irreps_of(cls, module: nn.Module) -> set[o3.Irrep]:
        """Return the irreps that input and output share, if the layer has its own weights."""
        own = module.internal_weights and module.weight_numel
        return shared_irreps(*irreps_of(module)) if own else set()

    def _irreps(self) -> tuple[o3.Irreps, o3.Irreps]:
        return irreps_of(self.base)

    def _blocks(self) -> list[Block]:
        """Return the blocks of the flat weight, whose order e3nn and cuEquivariance share."""
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
        """Raise ValueError if e3nn's instructions differ from `blocks` and `path_weights`."""
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

    def _place(self, block: Block) -> tuple[str, tuple[slice, slice] | None]:
        """Return the matrix that a block is in, and its rows and columns unless it is the whole."""
        part = str(self.irreps_in[block.i_in].ir)
        same = [b for b in self.blocks if str(self.irreps_in[b.i_in].ir) == part]
        if len(same) == 1:
            return part, None
        top = sum({b.i_in: b.rows for b in same if b.i_in < block.i_in}.values())
        left = sum({b.i_out: b.columns for b in same if b.i_out < block.i_out}.values())
        return part, (slice(top, top + block.rows), slice(left, left + block.columns))

    def matrices(self, weight: Tensor) -> Matrices:
        """Return the weight, flat in the base, as a matrix for each adapted irrep."""
        sizes = [block.rows * block.columns for block in self.blocks]
        rows: dict[str, dict[int, list[Tensor]]] = {part: {} for part in self.parts}
        values_of = weight.reshape(-1).split(sizes)
        for block, (part, _), values in zip(self.blocks, self._places, values_of, strict=True):
            if part in rows:
                row = rows[part].setdefault(block.i_in, [])
                row.append(values.view(block.rows, block.columns))
        return {
            part: torch.cat([torch.cat(row, dim=1) for row in of_part.values()])
            for part, of_part in rows.items()
        }

    def assemble(self, matrices: Matrices) -> Tensor:
        """Return the matrices as a flat weight, in the shape of the base's."""
        like = next(iter(matrices.values()))
        pieces = []
        for block, (part, where) in zip(self.blocks, self._places, strict=True):
            if part in matrices:
                matrix = matrices[part] if where is None else matrices[part][..., *where]
                pieces.append(matrix.flatten(-2))
            else:  # not adapted
                pieces.append(like.new_zeros(*like.shape[:-2], block.rows * block.columns))
        flat = torch.cat(pieces, dim=-1)  # [..., weight_numel]
        return flat.view(*flat.shape[:-1], *self.base.weight.shape)

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base computes with another weight, [..., irreps_out.dim]."""
        if is_cueq(self.base):  # takes no weight from outside, and stores it as [1, weight_numel]
            own = {"weight": weight.view_as(self.base.weight)}
            out: Tensor = functional_call(self.base, own, inputs)
            return out
        with_weight: Tensor = self.base(*inputs, weight)
        return with_weight

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return what the base computes with K weights, by one product for each block."""
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

    def element_shapes(self) -> list[tuple[int, int, int]] | None:
        """Return the shapes of a layer that reads the one-hot elements: a row for each."""
        return [(1, stretch.size, 1) for stretch in self.inputs]


class _MatrixHost(Host):
    """A layer whose weight is one matrix; it counts as 0e."""

    switch = "dense"
    flat = False
    by_irrep = False

    def __init__(self, base: Untyped, irreps: tuple[str, ...] = ()) -> None:
        """Look at the weight of the base layer.

        Args:
            base: The layer.
            irreps: Of no meaning here.
        """
        super().__init__(base, irreps)
        rows, columns = base.weight.shape
        n_in, n_out = (columns, rows) if self.outputs_first else (rows, columns)
        self.inputs, self.outputs = [Stretch("0e", n_in)], [Stretch("0e", n_out)]

    @classmethod
    def irreps_of(cls, module: nn.Module) -> set[o3.Irrep]:
        """Return 0e."""
        return {o3.Irrep("0e")}

    def matrices(self, weight: Tensor) -> Matrices:
        """Return the weight as the one matrix."""
        return {"0e": weight}

    def assemble(self, matrices: Matrices) -> Tensor:
        """Return the one matrix as the weight."""
        return matrices["0e"]


class DenseHost(_MatrixHost):
    """An `nn.Linear`, W [out, in]."""

    outputs_first = True

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True for an `nn.Linear`."""
        return isinstance(module, nn.Linear)

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """Return x W^T + bias, [..., out]."""
        (x,) = inputs
        return nn.functional.linear(x, weight, self.base.bias)

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return the same for K weights, [K * n, out]."""
        out = _each(weights.transpose(1, 2), *inputs)
        return out if self.base.bias is None else out + self.base.bias


class FCHost(_MatrixHost):
    """A layer of e3nn's `FullyConnectedNet`, W [in, out].

    The base layer divides its weight by sqrt(fan-in) and scales its activation.  It takes no
    weight from outside, so both are done here.
    """

    @classmethod
    def takes(cls, module: nn.Module) -> bool:
        """Return True for a layer of a `FullyConnectedNet`."""
        return isinstance(module, FCLayer)

    def run(self, weight: Tensor, *inputs: Tensor) -> Tensor:
        """Return act(x W / sqrt(fan-in)), scaled, [..., out]."""
        (x,), base = inputs, self.base
        return self._activate(x @ (weight / math.sqrt(base.h_in * base.var_in)))

    def run_packed(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return the same for K weights, [K * n, out]."""
        base = self.base
        return self._activate(_each(weights / math.sqrt(base.h_in * base.var_in), *inputs))

    def _activate(self, x: Tensor) -> Tensor:
        x = x if self.base.act is None else self.base.act(x)
        return x * math.sqrt(self.base.var_out)


def _each(weights: Tensor, x: Tensor) -> Tensor:
    """Return x [K * n, in], in K equal parts, each times its own weight [in, out]."""
    parts = x.view(len(weights), -1, x.shape[-1])
    return torch.bmm(parts, weights).flatten(0, 1)  # [K * n, out]
