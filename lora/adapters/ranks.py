"""Ranks by irrep: the columns of A and B along which the gradient of the loss is largest.

    layer 1   0e  ||||||||        0e  ||||||||
              1o  ||||||||   ->   1o  |||
    layer 2   0e  ||||||||        0e  |||||
              1o  ||||||||        1o  |

All irreps of all layers compete for the numbers that train.  With B at zero its first step is
along s A^T G, G the gradient of the loss by the weight, and by plain gradient descent the loss
falls by the square of that times the step.  So a column a of A is worth |s a^T G|^2, shared out to
its numbers and those of its row of B.  Columns that are worth the least become zero in A and in B.
There they stay, since the gradient of each has the other as a factor: files, packs and merging see
an adapter of the whole rank.

Ranks are shared out by importance in AdaLoRA (arXiv 2303.10512), by the gradient at the start in
GoRA (arXiv 2502.12171); here it is done once, irrep by irrep.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lora.adapters.layer import Adapter

SHARE = 0.5  # of the numbers of A and B that train
Ranks = list[dict[str, int]]  # of each layer, the rank of each irrep


@torch.no_grad()
def keep_best(
    layers: Sequence[Adapter], gradients: Sequence[Tensor], share: float = SHARE
) -> Ranks:
    """Set the columns that are worth the least to zero, in place; return the ranks that are left.

    Each irrep keeps its best column, whatever it is worth.

    Args:
        layers: Adapters whose change is a product of two factors, one of them zero.
        gradients: Of the weight of each layer, in the shape of `base_weight`.
        share: The largest share of the numbers of A and B that is kept.
    """
    worths: dict[tuple[int, str], Tensor] = {}
    costs: dict[tuple[int, str], int] = {}
    for i, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
        matrices = layer.host.matrices(gradient)
        for part, (left, right) in layer.factors().items():
            worths[i, part] = _worth(layer, left, right, matrices[part])
            costs[i, part] = left.shape[0] + right.shape[1]  # of a column of A and B
    kept = {key: [int(worth.argmax())] for key, worth in worths.items()}
    room = share * sum(costs[key] * len(worth) for key, worth in worths.items())
    room -= sum(costs.values())
    others = [
        (float(worth) / costs[key], key, column)
        for key, of_each in worths.items()
        for column, worth in enumerate(of_each)
        if column not in kept[key]
    ]
    for _, key, column in sorted(others, key=lambda x: -x[0]):
        room -= costs[key]
        if room < 0:
            break
        kept[key].append(column)
    for i, layer in enumerate(layers):
        _keep(layer, {part: kept[i, part] for part in layer.host.parts})
    return [{part: len(kept[i, part]) for part in x.host.parts} for i, x in enumerate(layers)]


def _worth(layer: Adapter, left: Tensor, right: Tensor, gradient: Tensor) -> Tensor:
    """Return the square of s A^T G of an irrep, summed over outputs, [rank]."""
    step = right @ gradient.mT if layer.host.outputs_first else left.mT @ gradient
    return (layer.scale * step).square().sum(dim=1)


def _keep(layer: Adapter, columns: dict[str, list[int]]) -> None:
    """Set all columns but some of each irrep to zero."""
    pairs = layer.factors()
    for part, (left, right) in pairs.items():
        lost = torch.ones(layer.width, dtype=torch.bool, device=left.device)
        lost[columns[part]] = False
        pairs[part] = left.masked_fill(lost, 0.0), right.masked_fill(lost[:, None], 0.0)
    layer.set_factors(pairs)
