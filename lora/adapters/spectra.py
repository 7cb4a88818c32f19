"""The factors of a LoRA layer as plain matrices, whatever the layer's own layout.

What cuts, adds, pads and measures adapters works on these: {irrep: (left [m, rank], right
[rank, n])}, where the change of the weight is `layer.scale * left @ right`.  Dense layers have
the one part "0e".  Irreps that stand several times in a layer's input or output are one matrix.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.layer import LoRALayer
from lora.adapters.linear import LoRADenseLinear, LoRAO3Linear
from lora.adapters.products import LoRAContraction

Pairs = dict[str, tuple[Tensor, Tensor]]


def _pieces(layer: LoRAO3Linear | LoRAContraction) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    """Views of A, each [rows, rank], and of B, each [rank, columns], of every irrep."""
    a, b, r = layer.lora_A.detach(), layer.lora_B.detach(), layer.rank
    if isinstance(layer, LoRAContraction):
        outputs = [str(layer.irreps_out[i].ir) for i in layer.n_paths]
        lefts = [[a[where].view(-1, r)] for where, _ in layer.element_rows()]
        rights = [[x] for x in b.view(-1, r, layer.channels)]
        return dict(zip(outputs, zip(lefts, rights, strict=True), strict=True))
    pieces = {}
    for _, ir in layer.bottleneck:
        left = [a[s].view(-1, r) for i, s in layer.in_a.items() if layer.irreps_in[i].ir == ir]
        right = [b[s].view(r, -1) for i, s in layer.in_b.items() if layer.irreps_out[i].ir == ir]
        pieces[str(ir)] = left, right
    return pieces


@torch.no_grad()
def factor_pairs(layer: LoRALayer) -> Pairs:
    """The factors as matrices; see the head of this file."""
    if isinstance(layer, LoRAO3Linear | LoRAContraction):
        return {
            part: (torch.cat(left), torch.cat(right, dim=1))
            for part, (left, right) in _pieces(layer).items()
        }
    a, b = layer.lora_A, layer.lora_B
    return {"0e": (b, a) if isinstance(layer, LoRADenseLinear) else (a, b)}


@torch.no_grad()
def set_pairs(layer: LoRALayer, pairs: Pairs) -> None:
    """The reverse of `factor_pairs`; lower ranks are filled up with zeros."""
    pairs = {part: padded(*pair, layer.rank) for part, pair in pairs.items()}
    if isinstance(layer, LoRAO3Linear | LoRAContraction):
        for part, (lefts, rights) in _pieces(layer).items():
            left, right = pairs[part]
            for piece, values in zip(lefts, left.split([len(x) for x in lefts]), strict=True):
                piece.copy_(values)
            widths = [x.shape[1] for x in rights]
            for piece, values in zip(rights, right.split(widths, dim=1), strict=True):
                piece.copy_(values)
        return
    left, right = pairs["0e"]
    swap = isinstance(layer, LoRADenseLinear)
    layer.lora_A.copy_(right if swap else left)
    layer.lora_B.copy_(left if swap else right)


def padded(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """left [m, r], right [r, n] with zeros up to [m, rank], [rank, n]; the product stays."""
    short = rank - left.shape[1]
    return nn.functional.pad(left, (0, short)), nn.functional.pad(right, (0, 0, 0, short))


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
    return {part: layer.scale * thin_svd(*pair)[1] for part, pair in pairs.items()}


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the squared singular values' shares (Roy and Vetterli, 2007)."""
    share = values.square() / values.square().sum().clamp_min(1e-300)
    return float(torch.exp(torch.special.entr(share).sum()))


def spectra(layers: Iterable[tuple[str, LoRALayer]]) -> dict[str, Any]:
    """Singular values and effective ranks of layers, by name and irrep, as JSON holds them."""
    values = {name: spectrum(layer) for name, layer in layers}
    return {
        "singular_values": {
            name: {part: x.tolist() for part, x in parts.items()} for name, parts in values.items()
        },
        "effective_rank": {
            name: {part: effective_rank(x) for part, x in parts.items()}
            for name, parts in values.items()
        },
    }


def like(layer: LoRALayer, rank: int) -> LoRALayer:
    """A new layer of another rank on the same base, with the same alpha, scaling and irreps."""
    only = {}
    if isinstance(layer, LoRAO3Linear | LoRAContraction):
        only["irreps"] = tuple(_pieces(layer))
    return type(layer)(layer.base, rank, layer.alpha, layer.scaling, **only)
