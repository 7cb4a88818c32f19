"""Frozen products folded in advance: what LoRA's frozen base allows and full training does not.

MACE's symmetric contraction joins coupling coefficients U, weights W of each element, and the
features x of an atom.  U W is the same in every step while W is frozen: it is summed up once, an
element at a time, and a step only joins it with x.  Exact, but for the order of sums.

    MACE: Batatia et al., arXiv 2206.07697, eq. 10 and 11
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from lora._upstream import is_cueq
from lora.inject import replace_layer

log = logging.getLogger(__name__)

MOST_NUMBERS = 200_000_000  # of all folded tensors; a model that needs more stays as it is


def fold(model: nn.Module) -> list[str]:
    """Put folded contractions in the place of MACE's, in place.  Returns their names.

    For a copy that trains adapters or predicts: a folded model cannot be saved as a MACE model,
    and its contractions cannot be trained.  Contractions that have adapters, run on cuEquivariance
    or would be too large are left as they are.
    """
    found = {
        name: layer
        for name, layer in model.named_modules()
        if name.endswith("symmetric_contractions") and not is_cueq(layer)
    }
    found = {name: x for name, x in found.items() if hasattr(x, "contractions")}
    if sum(_size(layer) for layer in found.values()) > MOST_NUMBERS:
        log.info("the contractions are too large to be folded")
        return []
    for name, layer in found.items():
        replace_layer(model, name, FoldedContractions(layer))
    return list(found)


def _size(layer: nn.Module) -> int:
    """Numbers that the folded contractions hold: couplings without paths, elements, channels."""
    return sum(
        part.U_tensors(order)[..., 0].numel()
        * part.weights_max.shape[0]
        * part.weights_max.shape[-1]
        for part in layer.contractions
        for order in range(1, part.correlation + 1)
    )


class FoldedContractions(nn.Module):
    """MACE's SymmetricContraction with frozen weights.

    Atoms are taken an element at a time, which makes the step a few products of dense matrices.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(FoldedContraction(part) for part in base.contractions)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Features x [n_atoms, channels, n_lm] and one-hot elements y to [n_atoms, out.dim]."""
        n_elements = y.shape[1]
        order = torch.argsort(y.argmax(dim=1), stable=True)  # [n_atoms]
        counts = y.sum(dim=0).long().tolist() if n_elements > 1 else [len(y)]
        groups = x[order].transpose(0, 1).split(counts, dim=1)  # each [channels, n, n_lm]
        outs = [
            torch.cat([part(group, e) for part in self.parts], dim=-1)
            for e, group in enumerate(groups)
            if group.shape[1]
        ]
        return torch.cat(outs)[torch.argsort(order)]


class FoldedContraction(nn.Module):
    """One output irrep: the tensors U W of each order, an element at a time."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        top: int = base.correlation
        weights: dict[int, Any] = {top: base.weights_max}
        weights |= {top - 1 - i: weight for i, weight in enumerate(base.weights)}
        self.orders = sorted(weights, reverse=True)
        for order in self.orders:
            couplings = base.U_tensors(order)  # [(dim,) n_lm, ..., n_lm, n_paths]
            folded = torch.einsum("...k,ekc->ec...", couplings, weights[order].detach())
            self.register_buffer(f"folded_{order}", folded.flatten(2).contiguous())

    def forward(self, x: Tensor, element: int) -> Tensor:
        """x [channels, n, n_lm] of atoms of one element to [n, channels * dim]."""
        channels, n, n_lm = x.shape
        first, *lower = self.orders
        top = getattr(self, f"folded_{first}")[element]  # [channels, dim * n_lm^first]
        matrix = top.view(channels, -1, n_lm).transpose(1, 2)  # [channels, n_lm, dim * n_lm^(..-1)]
        out = x @ matrix  # [channels, n, dim * n_lm^(first - 1)]
        for order in lower:
            out = out + getattr(self, f"folded_{order}")[element][:, None]
            out = (out.view(channels, n, -1, n_lm) @ x[..., None]).squeeze(-1)
        return out.transpose(0, 1).reshape(n, -1)  # [n, channels * dim]
