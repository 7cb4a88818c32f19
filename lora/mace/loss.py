"""MACE's losses, and its errors on a validation set."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lora.mace.door import default_dtype, upstream
from lora.plan.settings import TrainSettings

# The terms to which MACE's losses (0.3.16) give no weights of structures, and whether they lack
# those of labels, too.
UNWEIGHTED = {
    "huber": {"energy": True, "forces": True, "stress": True},
    "universal": {"energy": False, "forces": False, "stress": False},
    "l1l2energyforces": {"forces": True},
}


class Weighted(nn.Module):
    """One of MACE's losses that leaves out weights of structures, with all of them.

    As in MACE's universal loss, a weight w scales the error before its size is taken, h(w x).  So a
    missing label, of weight 0, adds nothing.  Without weights this is MACE's loss.

    Args:
        loss: MACE's loss.
        terms: A row of `UNWEIGHTED`.
    """

    def __init__(self, loss: nn.Module, terms: dict[str, bool]) -> None:
        super().__init__()
        self.loss, self.terms = loss, terms

    def forward(self, ref: Any, pred: dict[str, Tensor], ddp: bool | None = None) -> Tensor:
        """Return the loss of a batch, []."""
        truth, found = copy.copy(ref), dict(pred)
        for name, labels_too in self.terms.items():
            weight = ref.weight * ref[f"{name}_weight"] if labels_too else ref.weight
            if name == "forces":
                weight = torch.repeat_interleave(weight, ref.ptr[1:] - ref.ptr[:-1])
            weight = weight.view(-1, *[1] * (ref[name].dim() - 1))
            truth[name], found[name] = weight * ref[name], weight * pred[name]
        out: Tensor = self.loss(ref=truth, pred=found, ddp=ddp)
        return out


def loss_of(settings: TrainSettings, like: Tensor) -> nn.Module:
    """Return MACE's loss function, in which the weights of structures and labels count.

    Args:
        settings: The settings, with the name of the loss and the weights of its terms.
        like: A tensor of the dtype and device that the loss is computed in.
    """
    with default_dtype(like.dtype):  # MACE makes the weights of its terms in it
        loss: nn.Module = upstream("mace.tools.scripts_utils").get_loss_fn(
            settings, dipole_only=False, compute_dipole=False
        )
    if settings.loss in UNWEIGHTED:
        loss = Weighted(loss, UNWEIGHTED[settings.loss])
    return loss.to(like.device)


class Measure:
    """MACE's sums of a loss and of errors over batches.

    MACE (0.3.16) leaves structures without an energy out of the errors of total energies, but not
    out of those per atom; here they are out of both.

    Args:
        sums: MACE's metric.
    """

    def __init__(self, sums: Any) -> None:
        self.sums = sums

    def update(self, batch: Any, found: dict[str, Tensor]) -> None:
        """Add a batch and what the model computes for it."""
        self.sums.update(batch, found)
        for name, errors in (
            ("energy", self.sums.delta_es_per_atom),
            ("virials", self.sums.delta_virials_per_atom),
        ):
            if errors and found.get(name) is not None:
                errors[-1] = errors[-1][batch.weight * batch[f"{name}_weight"] > 0]

    def compute(self) -> tuple[float, dict[str, float]]:
        """Return the mean loss and the errors, each of the structures that have such a label."""
        loss, errors = self.sums.compute()
        return loss, errors


def measure_of(loss: nn.Module, like: Tensor) -> Measure:
    """Return sums of a loss and of errors over batches.

    Args:
        loss: What `loss_of` returned.
        like: A tensor of the dtype and device of the sums.
    """
    with default_dtype(like.dtype):  # the sums are kept in it
        sums = upstream("mace.tools.train").MACELoss(loss_fn=loss).to(like.device)
    return Measure(sums)
