"""The training loop: steps, validation, best weights, checkpoints, of one point or a pack.

Nothing here knows LoRA.  A model in training is given as something that computes the outputs of
several points for one batch; each point has an optimiser, a schedule, a moving average, an early
stop and a best of its own, so that it trains as it would alone.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from lora._upstream import default_dtype, upstream
from lora.config import TrainSettings, UserError
from lora.data import batches, frozen

log = logging.getLogger(__name__)

STRESS_LOSSES = ("stress", "huber", "universal")


class Trainee(Protocol):
    """What `Fit` trains: a module that computes several points, such as `lora.pack.Pack`."""

    def __call__(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]: ...


class Single(nn.Module):
    """One model as the only point."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]:
        return [self.model(batch, **options)]


class Point:
    """One training among those of a `Fit`.

    trained:   the parameters that its optimiser moves, by name
    settings:  resolved
    history:   one dict an epoch, epoch 0 before any training; what metrics.jsonl holds
    """

    def __init__(self, trained: dict[str, nn.Parameter], settings: TrainSettings) -> None:
        self.trained, self.settings = trained, settings
        parameters = list(trained.values())
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
        with default_dtype(parameters[0].dtype):  # MACE makes the weights of its terms in it
            self.loss = upstream("mace.tools.scripts_utils").get_loss_fn(
                settings, dipole_only=False, compute_dipole=False
            )
        self.loss.to(parameters[0].device)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.seconds = 0.0

    @property
    def epoch(self) -> int:
        """The last finished epoch; -1 before the first validation."""
        return len(self.history) - 1

    @property
    def outputs(self) -> dict[str, bool]:
        """What the loss needs from the model."""
        return {
            "compute_stress": self.settings.loss in STRESS_LOSSES,
            "compute_virials": self.settings.loss == "virials",
        }

    def ended(self) -> str:
        """Why the training is over: "max_num_epochs" or "patience"; "" if it is not."""
        if self.epoch >= self.settings.max_num_epochs:
            return "max_num_epochs"
        return "patience" if self.epoch - self.best_epoch >= self.settings.patience else ""

    def step(self) -> None:
        """One step of the optimiser with the gradients at hand."""
        if self.settings.clip_grad:
            nn.utils.clip_grad_norm_(self.trained.values(), self.settings.clip_grad)
        self.optimizer.step()
        if self.ema:
            self.ema.update()

    def record(self, train_loss: float, errors: dict[str, float], seconds: float) -> None:
        """Add an epoch to the history; keep the weights, as they are now, if they are the best."""
        epoch, loss = self.epoch + 1, float(errors["loss"])
        for what, value in {"training": train_loss, "validation": loss}.items():
            if not math.isfinite(value):
                s = self.settings
                raise UserError(
                    f"epoch {epoch}: the {what} loss is not a finite number; lower lr ({s.lr:g}) "
                    f"or clip_grad ({s.clip_grad:g}), and look at the data"
                )
        if epoch == 0 or loss < self.history[self.best_epoch]["valid_loss"]:
            self.best_epoch = epoch
            self.best = {n: p.detach().clone() for n, p in self.trained.items()}
        self.seconds += seconds
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss if epoch else None,
                "valid_loss": loss,
                "valid_rmse_e_mev_per_atom": 1e3 * float(errors["rmse_e_per_atom"]),
                "valid_rmse_f_mev_per_a": 1e3 * float(errors["rmse_f"]),
                "lr": self.optimizer.param_groups[0]["lr"],
                "seconds": round(seconds, 3),
                "timestamp": round(time.time(), 3),
            }
        )

    def step_scheduler(self) -> None:
        """One epoch of the learning rate's schedule."""
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(self.history[-1]["valid_loss"])
        elif self.scheduler:
            self.scheduler.step()

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the weights of the best epoch back."""
        for name, parameter in self.trained.items():
            parameter.copy_(self.best[name])

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "trained": {n: p.detach() for n, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "ema": self.ema.state_dict() if self.ema else None,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name, parameter in self.trained.items():
            parameter.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.history, self.best = state["history"], state["best"]
        self.best_epoch, self.seconds = state["best_epoch"], state["seconds"]


class Fit:
    """Points in training.  Make it, `resume` if there is a checkpoint, `run`.

    model:     trained in place; after `run` every point has its best weights
    points:    in the order in which the model computes them
    keys:      what each training is of; a checkpoint is taken only for the same
    together:  how many points may go through a step at once; `choose_together` finds it out
    """

    def __init__(
        self,
        model: Trainee,
        points: list[Point],
        train: list[Any],
        valid: list[Any],
        keys: list[str] | None = None,
    ) -> None:
        self.model, self.points, self.train, self.valid = model, points, train, valid
        self.keys = keys or [""] * len(points)
        self.device = str(next(iter(points[0].trained.values())).device)
        self.valid_batches: dict[int, list[Any]] = {}  # by batch size
        self.together = len(points)

    def run(self, each_epoch: Callable[[list[Point]], None]) -> None:
        """Train every point to its end and load its best weights.

        Points of one epoch, seed and batch size go through an epoch together; those that lag
        behind catch up first, those that have ended cost nothing.  `each_epoch` is called with
        the points that have just finished one.

        Raises UserError when a loss is no longer a finite number.
        """
        while group := self._next_group():
            started, points = time.perf_counter(), [self.points[i] for i in group]
            first = points[0].epoch < 0  # only measured, as it comes
            losses = [0.0] * len(points) if first else self._train_epoch(group)
            self._validate(group, losses, started)
            if not first:
                for point in points:
                    point.step_scheduler()
            each_epoch(points)
        for point in self.points:
            point.load_best()

    def _next_group(self) -> list[int]:
        """The points to advance by one epoch, together."""
        active = [i for i, point in enumerate(self.points) if not point.ended()]
        active.sort(key=lambda i: (self.points[i].epoch, i))
        return [i for i in active if self._alike(i) == self._alike(active[0])][: self.together]

    def _alike(self, i: int) -> tuple:
        point = self.points[i]
        s, outputs = point.settings, tuple(point.outputs.values())
        return (point.epoch, s.seed, s.batch_size, s.valid_batch_size, outputs)

    def choose_together(self) -> int:
        """Time a few steps of 1, 2, 4, ... points at once, keep the quickest size a point.

        Nothing is changed but `together`.  Sizes that do not fit into the memory of a GPU, and
        all above them, are left out.
        """
        s, best = self.points[0].settings, math.inf
        size, chosen = 1, 1
        trial = list(batches(self.train[: 3 * s.batch_size], s.batch_size, self.device))
        while size <= len(self.points):
            group = list(range(size))
            try:
                times = [self._time_step(batch, group) for batch in trial]
            except torch.OutOfMemoryError:
                log.info("%d points at once do not fit into memory", size)
                break
            seconds = min(times) / size
            log.info("%d points at once: %.3f s a step and point", size, seconds)
            if seconds < best:
                best, chosen = seconds, size
            size *= 2
        self.together = chosen
        return chosen

    def _time_step(self, batch: Any, group: list[int]) -> float:
        started = time.perf_counter()
        outs = self.model(batch.to_dict(), group, training=True, **self.points[0].outputs)
        losses = [self.points[i].loss(pred=x, ref=batch) for i, x in zip(group, outs, strict=True)]
        torch.stack(losses).sum().backward()
        for i in group:
            self.points[i].optimizer.zero_grad(set_to_none=True)
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def _train_epoch(self, group: list[int]) -> list[float]:
        """One epoch of steps; the mean training loss of each point."""
        points = [self.points[i] for i in group]
        s, epoch = points[0].settings, points[0].epoch + 1
        totals = [torch.zeros((), device=self.device) for _ in points]
        order = s.seed * 1_000_003 + epoch  # of its own for each epoch, so a resumed run repeats it
        for batch in batches(self.train, s.batch_size, self.device, shuffle=order):
            for point in points:
                point.optimizer.zero_grad(set_to_none=True)
            outs = self.model(batch.to_dict(), group, training=True, **points[0].outputs)
            losses = [p.loss(pred=out, ref=batch) for p, out in zip(points, outs, strict=True)]
            torch.stack(losses).sum().backward()  # no point's loss has a part of another's
            for point in points:
                point.step()
            totals = [
                total + loss.detach() * batch.num_graphs
                for total, loss in zip(totals, losses, strict=True)
            ]
        return [float(total) / len(self.train) for total in totals]

    def _validate(self, group: list[int], losses: list[float], started: float) -> None:
        """Measure the moving averages on the validation set, by MACE, and record the epoch."""
        points = [self.points[i] for i in group]
        size = points[0].settings.valid_batch_size
        if size not in self.valid_batches:
            self.valid_batches[size] = list(batches(self.valid, size, self.device))
        dtype = next(iter(points[0].trained.values())).dtype
        with default_dtype(dtype):  # the sums are kept in it
            measure = upstream("mace.tools.train").MACELoss
            metrics = [measure(loss_fn=point.loss).to(self.device) for point in points]
        with ExitStack() as stack:
            for point in points:
                if point.ema:
                    stack.enter_context(point.ema.average_parameters())
            stack.enter_context(frozen(self.model))
            for batch in self.valid_batches[size]:
                outs = self.model(batch.to_dict(), group, training=False, **points[0].outputs)
                for metric, out in zip(metrics, outs, strict=True):
                    metric.update(batch, out)
            errors = [metric.compute()[1] for metric in metrics]
            seconds = (time.perf_counter() - started) / len(points)
            for point, loss, error in zip(points, losses, errors, strict=True):
                point.record(loss, error, seconds)

    # --- checkpoints: one file for all points, so that no kill can part them

    def save(self, path: Path) -> None:
        """Write all that the next epoch depends on, whole or not at all."""
        state = {key: point.state() for key, point in zip(self.keys, self.points, strict=True)}
        state["together"] = self.together  # other sizes round differently
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as handle:
            torch.save(state, handle)
        beside.replace(path)

    def resume(self, path: Path) -> int:
        """Go on from a checkpoint, where it has the same trainings.  Returns how many it had."""
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            what = type(error).__name__  # torch's own words advise to load it unsafely
            log.warning("%s cannot be read (%s): starting again", path, what)
            return 0
        found = 0
        for key, point in zip(self.keys, self.points, strict=True):
            if key in state:
                point.load_state(state[key])
                found += 1
                self.together = state["together"]
                log.info("going on after epoch %d of %s", point.epoch, path)
        if found < len(self.points):
            log.warning("%s is of other settings or data: starting again", path)
        return found


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
