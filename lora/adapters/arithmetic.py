"""Arithmetic of parameters and matrices that kinds of adapters share."""

import torch
from torch import Tensor


def joined(pieces: list[Tensor], dim: int) -> Tensor:
    """Return pieces side by side; one alone as it is, without a copy.

    Args:
        pieces: Tensors that differ in one dimension.
        dim: That dimension.
    """
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=dim)


def times(scale: float | Tensor, x: Tensor) -> Tensor:
    """Return a scale times a tensor, or a scale for each entry of its first dimension.

    Args:
        scale: A number, or [K].
        x: [...], or [K, ...].
    """
    if isinstance(scale, Tensor):
        return scale.view(-1, *[1] * (x.dim() - 1)) * x
    return scale * x
