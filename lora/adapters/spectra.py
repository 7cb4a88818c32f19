"""Singular values of what adapters change, and what cuts, adds and measures their factors.

All of it works on the factors of an adapter as plain matrices, `Adapter.factors`: {irrep: (left
[rows, rank], right [rank, columns])}, where the change of the weight is scale * left @ right.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lora.adapters.layer import Adapter


def thin_svd(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of a product, from its thin factors alone.

    With left = Q_l R_l and right^T = Q_r R_r, the singular values of left @ right are those of the
    small matrix R_l R_r^T.

    Args:
        left: [m, r].
        right: [r, n].

    Returns:
        U [m, k], singular values [k] and V [k, n], with k <= r.
    """
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, values, v @ q_right.T


@torch.no_grad()
def spectrum(layer: Adapter) -> dict[str, Tensor]:
    """Return the singular values of the weight change, largest first.

    They are in the norm in which the layer stores its weight, where a typical base weight of an
    equivariant layer is about 1.

    Args:
        layer: An adapter that can be cut.

    Returns:
        {irrep: [<= rank]}.
    """
    return {part: layer.scale * thin_svd(*pair)[1] for part, pair in layer.factors().items()}


def effective_rank(values: Tensor) -> float:
    """Return exp of the entropy of the squared singular values' shares (Roy and Vetterli, 2007).

    Args:
        values: The singular values, [rank].
    """
    share = values.square() / values.square().sum().clamp_min(1e-300)
    return float(torch.exp(torch.special.entr(share).sum()))


def spectra(layers: Iterable[tuple[str, Adapter]]) -> dict[str, Any]:
    """Return the singular values and effective ranks of layers as JSON holds them.

    Args:
        layers: Names and adapters; those that cannot be cut have no spectrum and are left out.

    Returns:
        {"singular_values": {layer: {irrep: [...]}}, "effective_rank": {layer: {irrep: ...}}}.
    """
    values = {name: spectrum(layer) for name, layer in layers if layer.can_be_cut}
    return {
        "singular_values": {
            name: {part: x.tolist() for part, x in parts.items()} for name, parts in values.items()
        },
        "effective_rank": {
            name: {part: effective_rank(x) for part, x in parts.items()}
            for name, parts in values.items()
        },
    }
