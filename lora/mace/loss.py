"""MACE's losses, and its errors on a validation set."""

from typing import Any

from torch import Tensor, nn

from lora.mace.door import default_dtype, upstream
from lora.plan.settings import TrainSettings

STRESS_LOSSES = ("stress", "huber", "universal")


def loss_of(settings: TrainSettings, like: Tensor) -> nn.Module:
    """Return MACE's loss function.

    Args:
        settings: The settings, with the name of the loss and the weights of its terms.
        like: A tensor of the dtype and device that the loss is computed in.
    """
    with default_dtype(like.dtype):  # MACE makes the weights of its terms in it
        loss: nn.Module = upstream("mace.tools.scripts_utils").get_loss_fn(
            settings, dipole_only=False, compute_dipole=False
        )
    return loss.to(like.device)


def measure_of(loss: nn.Module, like: Tensor) -> Any:
    """Return MACE's sums of a loss and of errors over batches; `compute` gives (loss, errors).

    Args:
        loss: What `loss_of` returned.
        like: A tensor of the dtype and device of the sums.
    """
    with default_dtype(like.dtype):  # the sums are kept in it
        return upstream("mace.tools.train").MACELoss(loss_fn=loss).to(like.device)
