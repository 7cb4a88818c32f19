"""Frozen contractions folded in advance: what LoRA's frozen base allows and full training does not.

MACE's symmetric contraction joins coupling coefficients U, weights W of each element, and the
features x of an atom.  While W is frozen, T = U W is a constant, and of each channel c and output
component m the contraction is a polynomial of x with constant coefficients:

    p = T1 x + T2 x x + T3 x x x        (T symmetric in the indices that meet x)

So its first and second derivatives, T1 + 2 T2 x + 3 T3 x x and 2 T2 + 6 T3 x, are known, too, and
are written here instead of being left to autograd.  Exact, but for the order of sums.

    MACE: Batatia et al., arXiv 2206.07697, eq. 10 and 11
"""

import itertools
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lora.mace.door import Untyped, is_cueq
from lora.mace.fast.autograd import join, spread
from lora.mace.modules import replace_layer

log = logging.getLogger(__name__)

MOST_NUMBERS = 200_000_000  # of all folded tensors; a model that needs more stays as it is


def fold(model: nn.Module) -> list[str]:
    """Put folded contractions in the place of MACE's, in place.

    For a copy that trains adapters or predicts: a folded model cannot be saved as a MACE model,
    and its contractions cannot be trained.  Contractions that have adapters, run on cuEquivariance,
    go beyond the third order or would be too large are left as they are.

    Args:
        model: A MACE model.

    Returns:
        The names of the contractions.
    """
    found: dict[str, Untyped] = {
        name: layer
        for name, layer in model.named_modules()
        if name.endswith("symmetric_contractions") and not is_cueq(layer)
    }
    found = {
        name: x
        for name, x in found.items()
        if hasattr(x, "contractions") and all(part.correlation <= 3 for part in x.contractions)
    }
    if sum(_size(layer) for layer in found.values()) > MOST_NUMBERS:
        log.info("the contractions are too large to be folded")
        return []
    for name, layer in found.items():
        replace_layer(model, name, FoldedContractions(layer))
    return list(found)


def _size(layer: Untyped) -> int:
    """Return how many numbers a folded contraction holds."""
    return sum(
        part.U_tensors(order)[..., 0].numel()
        * part.weights_max.shape[0]
        * part.weights_max.shape[-1]
        for part in layer.contractions
        for order in range(1, part.correlation + 1)
    )


class FoldedContractions(nn.Module):
    """MACE's SymmetricContraction with frozen weights.

    Attributes:
        dims: The number of components of each output irrep, dim of them in all.
        linear: T1 [n_elements, channels, dim * n_lm].
        quadratic: T2 [n_elements, channels, dim * n_lm, n_lm].
        cubic: T3 [n_elements, channels, dim * n_lm, pairs of n_lm].
    """

    def __init__(self, base: Untyped) -> None:
        """Fold the weights of a contraction.

        Args:
            base: MACE's contraction.
        """
        super().__init__()
        folded = [_folded(part) for part in base.contractions]
        self.dims = [orders[0].shape[2] for orders in folded]
        linear, quadratic, cubic = (torch.cat(same, dim=2) for same in zip(*folded, strict=True))
        n_lm = linear.shape[-1]
        first, second = torch.triu_indices(n_lm, n_lm, device=linear.device)
        cubic = cubic[..., first, second] * torch.where(first == second, 1.0, 2.0).to(cubic)
        if not cubic.any():  # correlation 2
            cubic = cubic[..., :0]
        self.register_buffer("linear", linear.flatten(2))
        self.register_buffer("quadratic", quadratic.flatten(2, 3))
        self.register_buffer("cubic", cubic.flatten(2, 3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the contracted features, [n_atoms, irreps_out.dim].

        Atoms are taken an element at a time, which makes of it a few products of dense matrices.

        Args:
            x: Features, [n_atoms, channels, n_lm].
            y: One-hot elements, [n_atoms, n_elements].
        """
        n, n_elements = y.shape
        order = torch.argsort(y.argmax(dim=1), stable=True)  # [n_atoms]
        counts = y.sum(dim=0).long().tolist() if n_elements > 1 else [n]
        x = spread(x, torch.argsort(order), n).permute(2, 1, 0)  # [n_lm, channels, n_atoms]
        out = _Polynomial.apply(x.contiguous(), counts, self.linear, self.quadratic, self.cubic)
        out = spread(out.permute(2, 0, 1), order, n)  # [n_atoms, channels, dim]
        return join(*(part.flatten(1) for part in out.split(self.dims, dim=2)))


def _folded(part: Untyped) -> list[Tensor]:
    """Return T1, T2 and T3 of one output irrep, [n_elements, channels, dim, n_lm, ...]."""
    top: int = part.correlation
    weights = {top: part.weights_max} | {top - 1 - i: w for i, w in enumerate(part.weights)}
    n_elements, _, channels = part.weights_max.shape
    n_lm = part.U_tensors(1).shape[-2]
    out: list[Tensor] = []
    for order in (1, 2, 3):
        shape = (n_elements, channels, -1, *[n_lm] * order)
        if order > top:
            dim = out[0].shape[2]
            out.append(out[0].new_zeros(n_elements, channels, dim, *shape[3:]))
            continue
        couplings = part.U_tensors(order)  # [(dim,) n_lm, ..., n_lm, n_paths]
        t = torch.einsum("...k,ekc->ec...", couplings, weights[order].detach()).reshape(shape)
        turns = [[0, 1, 2, *(3 + i for i in p)] for p in itertools.permutations(range(order))]
        total = torch.zeros_like(t)  # one after the other: all at once are six of the largest
        for turn in turns:
            total += t.permute(turn)
        out.append(total / len(turns))
    return out


class _Polynomial(torch.autograd.Function):
    """p [channels, dim, n_atoms] of x [n_lm, channels, n_atoms]; atoms sorted by element."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: list[int], linear: Tensor, quadratic: Tensor, cubic: Tensor
    ) -> Tensor:
        first = torch.cat(
            [t[..., None].expand(-1, -1, n) for t, n in zip(linear, counts, strict=True)], dim=-1
        )
        second = _each(quadratic, x, counts)  # [channels, dim * n_lm, n_atoms]
        slope, total = first + 2 * second, first + second
        if cubic.shape[-1]:
            squares = torch.cat([x[i] * x[i:] for i in range(len(x))])  # of all pairs
            third = _each(cubic, squares, counts)
            slope, total = slope + 3 * third, total + third
        slope = slope.unflatten(1, (-1, len(x)))
        ctx.save_for_backward(x, slope, quadratic, cubic)
        ctx.counts = counts
        return (total.view_as(slope) * x.transpose(0, 1)[:, None]).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, slope, *tensors = ctx.saved_tensors
        return _Slope.apply(x, grad, slope, ctx.counts, *tensors), None, None, None, None


class _Slope(torch.autograd.Function):
    """dp/dx times g [channels, dim, n_atoms], summed over dim: [n_lm, channels, n_atoms]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        g: Tensor,
        slope: Tensor,
        counts: list[int],
        quadratic: Tensor,
        cubic: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, g, slope, quadratic, cubic)
        ctx.counts = counts
        return (slope * g[:, :, None]).sum(dim=1).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        x, g, slope, quadratic, cubic = ctx.saved_tensors
        grad_g = (slope * h.transpose(0, 1)[:, None]).sum(dim=2)
        curved = 2 * _each(quadratic, h, ctx.counts)
        if cubic.shape[-1]:
            curved += 3 * _each(cubic, _pairs(h, x), ctx.counts)
        grad_x = (curved.view_as(slope) * g[:, :, None]).sum(dim=1).transpose(0, 1)
        return grad_x, grad_g, None, None, None, None


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """a_i b_j + b_i a_j of all i <= j: [n, ...] to [n (n + 1) / 2, ...]."""
    return torch.cat([a[i] * b[i:] + b[i] * a[i:] for i in range(len(a))])


def _each(matrices: Tensor, x: Tensor, counts: list[int]) -> Tensor:
    """Multiply matrices, [e, c, m, k], with x, [k, c, n_atoms]; return [c, m, n_atoms]."""
    groups = x.transpose(0, 1).split(counts, dim=2)  # each [c, k, n]
    return torch.cat([m @ group for m, group in zip(matrices, groups, strict=True)], dim=2)
