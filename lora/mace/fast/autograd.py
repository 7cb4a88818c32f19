"""Joining and moving rows of tensors, with gradients that cost no more than the thing itself.

Forces are gradients that are differentiated again.  The second gradient of torch's `cat` and
indexing fills a tensor of full size with zeros for every part and adds them up; those of the
functions here are each other.
"""

from typing import Any

import torch
from torch import Tensor


def join(*parts: Tensor) -> Tensor:
    """Return tensors side by side along the last dimension, as torch.cat does.

    Args:
        *parts: [..., a], [..., b] and so on.

    Returns:
        [..., a + b + ...].
    """
    out: Tensor = _Join.apply(*parts)
    return out


def spread(values: Tensor, place: Tensor, size: int) -> Tensor:
    """Return rows at their places; the other rows are zero.

    Args:
        values: [n, ...].
        place: The place of each row, all different, [n].
        size: The number of rows of the result.

    Returns:
        [size, ...].
    """
    out: Tensor = _Spread.apply(values, place, size)
    return out


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.sizes = [part.shape[-1] for part in parts]
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad.split(ctx.sizes, dim=-1)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, place: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.size = size
        out = values.new_zeros(size, *values.shape[1:])
        return out.index_copy_(0, place, values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Collect.apply(grad, ctx.saved_tensors[0], ctx.size), None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, place: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.size = size
        return values.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Spread.apply(grad, ctx.saved_tensors[0], ctx.size), None, None
