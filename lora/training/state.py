"""One training: its optimiser, schedule, moving average, early stop, history and best weights.

Several of them share a model in `lora.training.loop`; nothing here depends on which.
"""

import logging
import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from lora.catalogue.methods import LOSS_TERMS
from lora.errors import UserError
from lora.mace.loss import loss_of
from lora.plan.settings import TrainSettings
from lora.training.course import Course

log = logging.getLogger(__name__)

EXPLODED = 1e6  # times the untrained model's validation loss: it will not come back


class TrainingState(Course):
    """One training among those of a `Fit`.

    Args:
        trained: The parameters that its optimiser moves, by name.
        settings: Resolved settings.
        decayed: Where weight decay acts on them, by name: a factor of 1 or 0; None for everywhere.
        b_factors: Where `lr_ratio_b` multiplies the learning rate, likewise; None for nowhere.

    Attributes:
        best: The weights of the best epoch, by name.
    """

    def __init__(
        self,
        trained: dict[str, nn.Parameter],
        settings: TrainSettings,
        decayed: dict[str, Tensor] | None = None,
        b_factors: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(settings)
        self.trained = trained
        self.decayed = (
            {x: p.new_ones(()) for x, p in trained.items()} if decayed is None else decayed
        )
        ratio = settings.lr_ratio_b
        self.ratios = {  # of the learning rate, by name; left out where they are 1
            name: 1 + (ratio - 1) * where for name, where in (b_factors or {}).items() if ratio != 1
        }
        parameters = list(trained.values())
        assert settings.lr is not None  # the settings are resolved
        self.optimizer = torch.optim.Adam(
            parameters,
            lr=settings.lr,
            betas=(settings.beta, 0.999),
            amsgrad=settings.amsgrad,
        )
        self.scheduler = _scheduler(self.optimizer, settings)
        self.ema = (
            ExponentialMovingAverage(parameters, settings.ema_decay) if settings.ema else None
        )
        self.loss = loss_of(settings, parameters[0])
        self.best: dict[str, Tensor] = {}

    @property
    def outputs(self) -> dict[str, bool]:
        """Return what the loss needs from the model."""
        terms = LOSS_TERMS[self.settings.loss]
        return {"compute_stress": "stress" in terms, "compute_virials": "virials" in terms}

    def step(self) -> None:
        """Take one step of the optimiser with the gradients at hand."""
        if self.settings.clip_grad:
            nn.utils.clip_grad_norm_(self.trained.values(), self.settings.clip_grad)
        if self.settings.weight_decay:
            self._decay()
        self._move()
        if self.ema:
            self.ema.update()

    @torch.no_grad()
    def _move(self) -> None:
        """Let Adam move the parameters, those with a ratio by a multiple of its step.

        The step does not depend on where a parameter is, so it is taken from zero and added.
        """
        were = {name: self.trained[name].clone() for name in self.ratios}
        for name in were:
            self.trained[name].zero_()
        self.optimizer.step()
        for name, was in were.items():
            step = self.trained[name]
            step.copy_(was + self.ratios[name] * step)

    @torch.no_grad()
    def _decay(self) -> None:
        """Decay weights by w: add w p to gradients (adam), or take lr w p away (adamw).

        The second is decoupled from Adam's moments (Loshchilov and Hutter, arXiv 1711.05101).
        """
        decay, lr = self.settings.weight_decay, self.optimizer.param_groups[0]["lr"]
        for name, where in self.decayed.items():
            parameter = self.trained[name]
            if self.settings.optimizer == "adamw":
                parameter.mul_(1 - lr * decay * where * self.ratios.get(name, 1))
            elif parameter.grad is not None:
                parameter.grad.addcmul_(where, parameter, value=decay)

    def record(self, train_loss: float, errors: dict[str, float], seconds: float) -> None:
        """Add an epoch to the history; keep the weights, as they are now, if they are the best.

        A loss that is not finite, or `EXPLODED` times that of the untrained model, ends the
        training instead, with the best weights so far.

        Args:
            train_loss: The mean over the structures; 0 for epoch 0, which does not train.
            errors: On the validation set: "loss" and, where it has such labels,
                "rmse_e_per_atom" (eV), "rmse_f" (eV/Å).
            seconds: The wall time of the epoch.

        Raises:
            UserError: The loss of the untrained model is not finite.
        """
        epoch, loss = self.epoch + 1, float(errors["loss"])
        if not (math.isfinite(train_loss) and math.isfinite(loss)):
            if epoch == 0:
                raise UserError("the loss of the untrained model is not finite; look at the data")
            self._diverge(epoch, "is not a finite number")
            return
        if epoch and loss > EXPLODED * self.history[0]["valid_loss"] > 0:
            self._diverge(epoch, f"is {loss:.1e}, over {EXPLODED:g} times the untrained model's")
            return
        if epoch == 0 or loss < self.history[self.best_epoch]["valid_loss"]:
            self.best_epoch = epoch
            self.best = {n: p.detach().clone() for n, p in self.trained.items()}
        self.seconds += seconds
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss if epoch else None,
                "valid_loss": loss,
                "valid_rmse_e_mev_per_atom": _in_mev(errors, "rmse_e_per_atom"),
                "valid_rmse_f_mev_per_a": _in_mev(errors, "rmse_f"),
                "lr": self.optimizer.param_groups[0]["lr"],
                "seconds": round(seconds, 3),
                "timestamp": round(time.time(), 3),
            }
        )

    def _diverge(self, epoch: int, why: str) -> None:
        self.diverged, self.reason = True, f"in epoch {epoch} the loss {why}"
        log.warning(
            "epoch %d: the loss %s; the training ends, its best epoch %d is kept; lower lr (%g) or "
            "clip_grad (%g), and look at the data",
            *(epoch, why, self.best_epoch, self.settings.lr, self.settings.clip_grad),
        )

    def step_scheduler(self) -> None:
        """Advance the schedule of the learning rate by one epoch."""
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(self.history[-1]["valid_loss"])
        elif self.scheduler:
            self.scheduler.step()

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the weights of the best epoch back; there are none where it failed before."""
        for name, parameter in self.trained.items() if self.best else ():
            parameter.copy_(self.best[name])

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on."""
        return {
            "trained": {n: p.detach() for n, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "best": self.best,
            **self.course(),
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        for name, parameter in self.trained.items():
            parameter.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.best = state["best"]
        self.load_course(state)


def _in_mev(errors: dict[str, float], name: str) -> float | None:
    """Return an error in meV; None where the validation set has no such label."""
    return 1e3 * float(errors[name]) if name in errors else None


def _scheduler(optimizer: torch.optim.Optimizer, s: TrainSettings) -> Any:
    schedulers = torch.optim.lr_scheduler
    if s.scheduler == "ReduceLROnPlateau":
        return schedulers.ReduceLROnPlateau(
            optimizer, factor=s.lr_factor, patience=s.scheduler_patience
        )
    if s.scheduler == "ExponentialLR":
        return schedulers.ExponentialLR(optimizer, s.lr_scheduler_gamma)
    if s.scheduler == "CosineAnnealingLR":
        return schedulers.CosineAnnealingLR(optimizer, s.max_num_epochs, eta_min=0.01 * s.lr)
    return None
