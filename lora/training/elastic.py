"""Elastic weight consolidation: hold adapted weights where the foundation model needs them.

The penalty of a change D of the adapted weights W is

    p / 2  sum_i  F_i D_i^2

with the diagonal F of the Fisher information of the foundation model on the structures of keep
(Kirkpatrick et al., arXiv 1612.00796; for interatomic potentials arXiv 2506.15223).  Energies and
forces count as normal distributed, with the variances that the weights of the loss say, so that F
is the diagonal of the Gauss-Newton matrix of that loss: with p = 1 the penalty is what the change
adds to the loss of these structures, to second order and as if no two weights acted together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.inject import lora_layers
from lora.mace.graphs import batches
from lora.plan.settings import TrainSettings

PENALTY = "penalty"  # its name among the outputs of a point
DRAWS = 2  # of random signs, for each batch
SEED = 0  # of the signs; the points of a pack share what they give


@dataclass(frozen=True)
class Elastic:
    """What a change of weights costs.

    Attributes:
        fisher: The diagonal F by adapted layer, in the shape of its weight.
        weight: p.
    """

    fisher: dict[str, Tensor]
    weight: float

    def penalties(self, changes: Iterable[tuple[str, Tensor]]) -> tuple[Tensor, ...]:
        """Return the penalty of each of K points, [] each.

        Args:
            changes: The changes D by layer, [K, *shape of the weight].
        """
        each = [(self.fisher[name] * change**2).flatten(1).sum(1) for name, change in changes]
        return (self.weight / 2 * torch.stack(each).sum(0)).unbind()


Hold = Callable[[nn.Module], Elastic]  # says how to hold a model with adapters that change nothing


def holding(settings: TrainSettings, kept: Sequence[Any]) -> Hold:
    """Return what says how the settings of a training hold its weights.

    Args:
        settings: Resolved settings, with the weights of the loss.
        kept: The structures of keep as graphs.
    """
    return lambda model: Elastic(fisher(model, settings, kept), settings.keep_penalty)


def fisher(
    model: nn.Module, settings: TrainSettings, kept: Sequence[Any], draws: int = DRAWS
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information by adapted layer, the mean over structures.

    The gradient of a sum of all energies and forces with random signs has it as its mean square
    (Hutchinson's estimate). Stresses are left out.

    Args:
        model: The foundation model with its new E0s and with adapters that change nothing.
        settings: Resolved settings, with the weights of the loss.
        kept: The structures of keep as graphs.
        draws: Of random signs, for each batch.
    """
    layers = dict(lora_layers(model))
    probes = {x: torch.zeros_like(y.base_weight()).requires_grad_() for x, y in layers.items()}
    for name, layer in layers.items():
        layer.probe = probes[name]
    signs = torch.Generator().manual_seed(SEED)
    squares = {name: torch.zeros_like(probe) for name, probe in probes.items()}
    device = str(next(iter(probes.values())).device)
    for batch in batches(kept, settings.batch_size, device):
        for _ in range(draws):
            out = model(batch.to_dict(), training=True)
            total = _with_signs(out, batch.ptr[1:] - batch.ptr[:-1], settings, signs)
            gradients = torch.autograd.grad(total, list(probes.values()), allow_unused=True)
            for square, gradient in zip(squares.values(), gradients, strict=True):
                if gradient is not None:  # a layer that energies do not depend on
                    square += gradient**2
    for layer in layers.values():
        layer.probe = None
    return {name: square / (draws * len(kept)) for name, square in squares.items()}


def _with_signs(
    out: Mapping[str, Tensor], sizes: Tensor, settings: TrainSettings, signs: torch.Generator
) -> Tensor:
    """Return the sum of energies and forces, each over its standard deviation, with random signs.

    In the loss an energy counts per atom, and the forces of a structure by their mean.
    """
    n = sizes.to(out["energy"])  # [n_structures]
    energies = out["energy"] * (2 * settings.energy_weight) ** 0.5 / n
    share = (2 * settings.forces_weight / (3 * n)) ** 0.5
    forces = out["forces"] * torch.repeat_interleave(share, sizes)[:, None]
    return _with_sign(energies, signs) + _with_sign(forces, signs)


def _with_sign(values: Tensor, signs: torch.Generator) -> Tensor:
    """Return the sum of values with random signs, the same on every device."""
    drawn = 2 * torch.randint(2, values.shape, generator=signs) - 1
    return (values * drawn.to(values)).sum()
