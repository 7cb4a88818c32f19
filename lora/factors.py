"""The factors of a LoRA layer as plain matrices, whatever the layer's own layout.

What cuts, adds and measures adapters works on these: {irrep: (left [m, rank], right [rank, n])},
where the change of the weight is `unit(layer) * left @ right`.  Dense layers have the one part
"0e".  Irreps that stand several times in a layer's input or output are one matrix.
"""

import torch
from torch import Tensor

from lora.layers import LoRADenseLinear, LoRALayer, LoRAO3Linear

Pairs = dict[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def factor_pairs(layer: LoRALayer) -> Pairs:
    """The factors as matrices; see the head of this file."""
    a, b, r = layer.lora_A, layer.lora_B, layer.rank
    if isinstance(layer, LoRADenseLinear):
        return {"0e": (b, a)}
    if not isinstance(layer, LoRAO3Linear):
        return {"0e": (a, b)}
    pairs = {}
    for _, ir in layer.bottleneck:
        rows = [a[s].view(-1, r) for i, s in layer.in_a.items() if layer.irreps_in[i].ir == ir]
        columns = [b[s].view(r, -1) for i, s in layer.in_b.items() if layer.irreps_out[i].ir == ir]
        pairs[str(ir)] = torch.cat(rows), torch.cat(columns, dim=1)
    return pairs


@torch.no_grad()
def set_pairs(layer: LoRALayer, pairs: Pairs) -> None:
    """The reverse of `factor_pairs`."""
    if not isinstance(layer, LoRAO3Linear):
        left, right = pairs["0e"]
        swap = isinstance(layer, LoRADenseLinear)
        layer.lora_A.copy_(right if swap else left)
        layer.lora_B.copy_(left if swap else right)
        return
    for part, (left, right) in pairs.items():
        row = column = 0
        for i, where in layer.in_a.items():
            mul, ir = layer.irreps_in[i]
            if str(ir) == part:
                layer.lora_A[where] = left[row : row + mul].reshape(-1)
                row += mul
        for i, where in layer.in_b.items():
            mul, ir = layer.irreps_out[i]
            if str(ir) == part:
                layer.lora_B[where] = right[:, column : column + mul].reshape(-1)
                column += mul


def unit(layer: LoRALayer) -> float:
    """The factor between A B and the change of the weight; one for all paths of a layer."""
    if not isinstance(layer, LoRAO3Linear):
        return layer.scale
    coefficients = {round(path.coefficient, 12) for path in layer.paths}
    if len(coefficients) != 1:
        raise ValueError("a layer whose paths have different weights cannot be cut exactly")
    return layer.scale * layer.paths[0].coefficient


def thin_svd(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [m, k], singular values [k], V [k, n] of left [m, r] @ right [r, n], k <= r."""
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, values, v @ q_right.T


@torch.no_grad()
def spectrum(layer: LoRALayer) -> dict[str, Tensor]:
    """Singular values of the weight change, {irrep: [<= rank]}, largest first.

    In the norm in which the layer stores its weight, where a typical base weight of an
    equivariant layer is about 1.
    """
    pairs = factor_pairs(layer)
    return {part: unit(layer) * thin_svd(*pair)[1] for part, pair in pairs.items()}


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the squared singular values' shares (Roy and Vetterli, 2007)."""
    share = values.square() / values.square().sum().clamp_min(1e-300)
    return float(torch.exp(torch.special.entr(share).sum()))


def like(layer: LoRALayer, rank: int) -> LoRALayer:
    """A new layer of another rank on the same base, with the same alpha, scaling and irreps."""
    only = {}
    if isinstance(layer, LoRAO3Linear):
        only["irreps"] = tuple(str(ir) for _, ir in layer.bottleneck)
    return type(layer)(layer.base, rank, layer.alpha, layer.scaling, **only)
