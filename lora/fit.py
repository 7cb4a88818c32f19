"""The training loop of one point: steps, validation, best weights, checkpoints.

Nothing here knows LoRA: it trains whatever asks for a gradient.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from lora._upstream import upstream
from lora.config import TrainSettings, UserError
from lora.data import batches

log = logging.getLogger(__name__)

STRESS_LOSSES = ("stress", "huber", "universal")


class Fit:
    """One model in training.  Make it, `resume` if there is a checkpoint, `run`.

    model:     trained in place; after `run` it holds the best weights
    settings:  resolved
    history:   one dict an epoch, epoch 0 before any training; what metrics.jsonl holds
    """

    def __init__(
        self, model: nn.Module, train: list[Any], valid: list[Any], settings: TrainSettings
    ) -> None:
        self.model, self.train, self.settings = model.to(settings.device), train, settings
        self.valid = list(batches(valid, settings.valid_batch_size, settings.device))
        self.outputs = {
            "forces": True,
            "stress": settings.loss in STRESS_LOSSES,
            "virials": settings.loss == "virials",
        }
        scripts = upstream("mace.tools.scripts_utils")
        self.loss = scripts.get_loss_fn(settings, dipole_only=False, compute_dipole=False)
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        parameters = list(self.trained.values())
        self.optimizer = torch.optim.Adam(
            parameters,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
        )
        self.scheduler = _scheduler(self.optimizer, settings)
        self.ema = (
            ExponentialMovingAverage(parameters, settings.ema_decay) if settings.ema else None
        )
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.seconds = 0.0

    def run(self, each_epoch: Callable[["Fit"], None]) -> str:
        """Train to the end and load the best weights; `each_epoch` is called after each one.

        Returns why it ended: "max_num_epochs" or "patience".
        Raises UserError when the loss is no longer a finite number.
        """
        if not self.history:
            self._validate(epoch=0, train_loss=math.nan, started=time.perf_counter())
            each_epoch(self)
        while not (why := self._ended()):
            started, epoch = time.perf_counter(), len(self.history)
            train_loss = self._train_epoch(epoch)
            self._validate(epoch, train_loss, started)
            self._step_scheduler()
            each_epoch(self)
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.best[name])
        return why

    def _ended(self) -> str:
        epoch = len(self.history) - 1
        if epoch >= self.settings.max_num_epochs:
            return "max_num_epochs"
        return "patience" if epoch - self.best_epoch >= self.settings.patience else ""

    def _train_epoch(self, epoch: int) -> float:
        s, total = self.settings, 0.0
        order = s.seed * 1_000_003 + epoch  # of its own for each epoch, so a resumed run repeats it
        for batch in batches(self.train, s.batch_size, s.device, shuffle=order):
            self.optimizer.zero_grad(set_to_none=True)
            out = self.model(
                batch.to_dict(),
                training=True,
                compute_force=True,
                compute_virials=self.outputs["virials"],
                compute_stress=self.outputs["stress"],
            )
            loss = self.loss(pred=out, ref=batch)
            loss.backward()
            if s.clip_grad:
                nn.utils.clip_grad_norm_(self.trained.values(), s.clip_grad)
            self.optimizer.step()
            if self.ema:
                self.ema.update()
            total += loss.item() * batch.num_graphs
        if not math.isfinite(total):
            raise UserError(
                f"epoch {epoch}: the training loss is not a finite number; lower lr ({s.lr:g}) or "
                f"clip_grad ({s.clip_grad:g}), and look at the data"
            )
        return total / len(self.train)

    def _validate(self, epoch: int, train_loss: float, started: float) -> None:
        """Measure the EMA weights on the validation set, keep them if they are the best."""
        evaluate = upstream("mace.tools.train").evaluate
        context = self.ema.average_parameters() if self.ema else nullcontext()
        with context:
            loss, errors = evaluate(
                self.model, self.loss, self.valid, self.outputs, torch.device(self.settings.device)
            )
            if not math.isfinite(loss):
                raise UserError(f"epoch {epoch}: the validation loss is not a finite number")
            if not self.history or loss < self.history[self.best_epoch]["valid_loss"]:
                self.best_epoch = epoch
                self.best = {n: p.detach().clone() for n, p in self.trained.items()}
        seconds = time.perf_counter() - started
        self.seconds += seconds
        line = {
            "epoch": epoch,
            "train_loss": train_loss if epoch else None,
            "valid_loss": float(loss),
            "valid_rmse_e_mev_per_atom": 1e3 * float(errors["rmse_e_per_atom"]),
            "valid_rmse_f_mev_per_a": 1e3 * float(errors["rmse_f"]),
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 3),
            "timestamp": round(time.time(), 3),
        }
        self.history.append(line)

    def _step_scheduler(self) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(self.history[-1]["valid_loss"])
        elif self.scheduler:
            self.scheduler.step()

    # --- checkpoints

    def save(self, path: Path, key: str) -> None:
        """Write all that the next epoch depends on, whole or not at all.

        `key` says what this training is of; `resume` takes only a checkpoint of the same.
        """
        state = {
            "key": key,
            "trained": {n: p.detach() for n, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        }
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as handle:
            torch.save(state, handle)
        beside.replace(path)

    def resume(self, path: Path, key: str) -> bool:
        """Go on from a checkpoint of the same training, if there is one.  Returns whether."""
        if not path.is_file():
            return False
        try:
            state = torch.load(path, map_location=self.settings.device, weights_only=True)
        except Exception as error:
            log.warning("%s cannot be read (%s): starting again", path, error)
            return False
        if state["key"] != key:
            log.warning("%s is of other settings or data: starting again", path)
            return False
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.seconds = state["best_epoch"], state["seconds"]
        log.info("going on after epoch %d of %s", len(self.history) - 1, path)
        return True


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
