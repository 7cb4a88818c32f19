"""The training loop: steps, validation and checkpoints of one point, or of several at once.

Nothing here depends on LoRA.  The model is a `Trainee`, which computes the outputs of several
points for one batch; each point has its own `TrainingState`, so that it trains as it would alone.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lora.errors import UserError, out_of_memory
from lora.mace.graphs import batches, in_epoch
from lora.mace.loss import measure_of
from lora.mace.predict import frozen
from lora.training.checkpoint import read_checkpoint, write_checkpoint
from lora.training.distributed import average, rank_and_size
from lora.training.elastic import PENALTY
from lora.training.state import TrainingState
from lora.training.streams import streams
from lora.training.together import step_together
from lora.training.trainees import Trainee

log = logging.getLogger(__name__)

T = TypeVar("T")


class PointError(Exception):
    """A point cannot go on, for a reason that is its own; those beside it can.

    Args:
        member: Its place in the pack.
        reason: What stands in train.json.
    """

    def __init__(self, member: int, reason: str) -> None:
        super().__init__(reason)
        self.member = member


class Fit:
    """Points in training.  Make it, `resume` if there is a checkpoint, `run`.

    Args:
        model: Trained in place; after `run` every point has its best weights.
        points: The trainings, in the order in which the model computes them.
        train: Graphs of the training set.
        valid: Graphs of the validation set.
        keys: A digest of what each training is of; a checkpoint is taken only for the same.

    Attributes:
        together: How many points may go through a step at once; see `capacity`.
        inside: Where a checkpoint is of the middle of an epoch: group, steps, sums of losses.
        until: The epoch after which every point stops, None for its end.
        notes: Plain values that are kept in the checkpoint, beside the trainings.
    """

    def __init__(
        self,
        model: Trainee,
        points: list[TrainingState],
        train: Sequence[Any],
        valid: Sequence[Any],
        keys: list[str] | None = None,
    ) -> None:
        self.model, self.points, self.train, self.valid = model, points, train, valid
        self.keys = keys or [""] * len(points)
        self.device = str(next(iter(points[0].trained.values())).device)
        self.valid_batches: dict[int, list[Any]] = {}  # by batch size, where graphs are held
        self.together = len(points)
        self.inside: dict[str, Any] = {}
        self.until: int | None = None
        self.notes: dict[str, Any] = {}

    def run(
        self,
        each_epoch: Callable[[list[TrainingState]], None],
        each_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train every point to its end and load its best weights; with `until`, only so far.

        Points of one epoch, seed and batch size go through an epoch together; those that lag
        behind catch up first, those that have ended cost nothing.  A point that cannot go on is
        marked failed.

        Args:
            each_epoch: Called with the points that have just finished an epoch.
            each_step: Called after every step of the optimisers; both may `save` and raise.

        Raises:
            UserError: The loss of the untrained model is not finite.
        """
        while group := self._next_group():
            while group:
                try:
                    self._epoch(group, each_step)
                    break
                except PointError as error:
                    group = self._without(group, error)
            each_epoch([self.points[i] for i in group])
        if self.until is None:
            self.load_best()

    def load_best(self) -> None:
        """Load the best weights of every point."""
        for point in self.points:
            point.load_best()

    def _epoch(self, group: list[int], each_step: Callable[[], None]) -> None:
        """Train a group for one epoch, or what is left of it, and validate it."""
        started, points = time.perf_counter(), [self.points[i] for i in group]
        first = points[0].epoch < 0  # only measured, as it comes
        losses = [0.0] * len(points) if first else self._train_epoch(group, each_step)
        self._validate(group, losses, started)
        self.inside = {}
        for point in points:
            if not first and not point.diverged:
                point.step_scheduler()

    def _without(self, group: list[int], error: PointError) -> list[int]:
        """Drop a failed member from the group, so that the others go on within the epoch."""
        kept = [k for k, i in enumerate(group) if i != error.member]
        if self.inside:
            totals = [self.inside["totals"][k] for k in kept]
            self.inside |= {"group": [group[k] for k in kept], "totals": totals}
        self.points[error.member].fail(str(error))
        return [group[k] for k in kept]

    def _next_group(self) -> list[int]:
        """Return the places of the points to advance by one epoch, together.

        A group that stands within an epoch ends it first, as it is.
        """
        active = [i for i, point in enumerate(self.points) if not point.rests(self.until)]
        begun: list[int] = self.inside["group"] if self.inside.get("steps") else []
        if begun and set(begun) <= set(active):
            return begun
        active.sort(key=lambda i: (self.points[i].epoch, i))
        return [i for i in active if self._alike(i) == self._alike(active[0])][: self.together]

    def _alike(self, i: int) -> tuple[Any, ...]:
        """Return what points have to share to go through an epoch together."""
        point = self.points[i]
        s, outputs = point.settings, tuple(point.outputs.values())
        return (point.epoch, s.seed, s.batch_size, s.drop_last, s.valid_batch_size, outputs)

    def _train_epoch(self, group: list[int], each_step: Callable[[], None]) -> list[float]:
        """Take the steps of an epoch, or what is left of it.  Return each point's mean loss."""
        points = [self.points[i] for i in group]
        s, epoch = points[0].settings, points[0].epoch + 1
        begun = self.inside
        if begun.get("group") != group:
            zero = torch.zeros((), device=self.device)
            begun = {"group": group, "steps": 0, "totals": [zero for _ in points]}
        self.inside = begun
        totals, done = begun["totals"], begun["steps"]
        order = streams(s.seed).order(epoch)
        todo = batches(
            *(self.train, s.batch_size, self.device, order, done, rank_and_size(), s.drop_last)
        )
        seen = in_epoch(len(self.train), s.batch_size, s.drop_last)
        for steps, batch in enumerate(todo, start=done + 1):
            losses = self.train_step(batch, group)
            n_structures = min(s.batch_size, seen - (steps - 1) * s.batch_size)
            totals = [
                total + loss * n_structures for total, loss in zip(totals, losses, strict=True)
            ]
            self.inside = {"group": group, "steps": steps, "totals": totals}
            each_step()
        return [float(total) / seen for total in totals]

    def train_step(self, batch: Any, group: list[int]) -> list[Tensor]:
        """Take one step of the optimisers of a group on one batch.  Return the losses, [] each."""
        losses = self._in_parts(group, partial(self._backward, batch))
        average(losses)
        for i in group:
            average(p.grad for p in self.points[i].trained.values() if p.grad is not None)
        step_together([self.points[i] for i in group])
        return losses

    def _in_parts(self, group: list[int], compute: Callable[[list[int]], list[T]]) -> list[T]:
        """Return what `compute` gives for a group, as many points at once as memory holds.

        No point's loss has a part of another's, so only the last digits depend on how many.

        Raises:
            PointError: There is no room for a point, not even alone.
            UserError: The same where processes share the training.
        """
        results: list[T] = []
        while todo := group[len(results) : len(results) + self.together]:
            try:
                results += compute(todo)
            except (RuntimeError, MemoryError) as error:  # the first is torch's, too
                if not out_of_memory(error):
                    raise
                s, epoch = self.points[todo[0]].settings, self.points[todo[0]].epoch
                sizes = f"batch_size {s.batch_size}, valid_batch_size {s.valid_batch_size}"
                # processes that share a training must all go the same way
                if rank_and_size()[1] > 1:
                    them = "them" if len(todo) == 1 else "them or pack.size"
                    raise UserError(f"{sizes}: memory ran out; lower {them}") from None
                if len(todo) == 1:
                    when = f"in epoch {epoch + 1}" if epoch >= 0 else "before the first epoch"
                    why = f"memory ran out {when} with {sizes}; lower them"
                    raise PointError(todo[0], why) from None
                self.together = -(-len(todo) // 2)
                log.warning("memory ran out: %d points share a step from here on", self.together)
                torch.cuda.empty_cache()
        return results

    def _backward(self, batch: Any, group: list[int], alone: bool = False) -> list[Tensor]:
        """Compute the gradients of a group on one batch.  Return the losses, [] each.

        Args:
            batch: The batch; of several processes the share of this one.
            group: The places of the points.
            alone: Without the other processes, to which sums of losses go otherwise.
        """
        points = [self.points[i] for i in group]
        for point in points:
            point.optimizer.zero_grad(set_to_none=True)
        outs = self._outputs(batch, group, training=True)
        ddp = not alone and rank_and_size()[1] > 1  # MACE's own default is not that of all losses
        losses = [p.loss(pred=out, ref=batch, ddp=ddp) for p, out in zip(points, outs, strict=True)]
        if PENALTY in outs[0]:  # of points that train together each has one
            losses = [loss + out[PENALTY] for loss, out in zip(losses, outs, strict=True)]
        # no point's loss has a part of another's; of positions nobody wants the gradient
        trained = [parameter for point in points for parameter in point.trained.values()]
        torch.autograd.backward(torch.stack(losses).sum(), inputs=trained)
        return [loss.detach() for loss in losses]

    def _outputs(self, batch: Any, group: list[int], training: bool) -> list[dict[str, Tensor]]:
        """Return what the model computes for a group on one batch."""
        wanted = self.points[group[0]].outputs
        return self.model(batch.to_dict(), group, training=training, **wanted)

    def _validate(self, group: list[int], losses: list[float], started: float) -> None:
        """Measure the moving averages on the validation set, by MACE, and record the epoch."""
        points = [self.points[i] for i in group]
        size = points[0].settings.valid_batch_size
        if isinstance(self.valid, list) and size not in self.valid_batches:
            self.valid_batches[size] = list(batches(self.valid, size, self.device))
        held = self.valid_batches.get(size)
        example = next(iter(points[0].trained.values()))
        metrics = [measure_of(point.loss, example) for point in points]
        with ExitStack() as stack:
            for point in points:
                if point.ema:
                    stack.enter_context(point.ema.average_parameters())
            stack.enter_context(frozen(self.model))
            for batch in held or batches(self.valid, size, self.device):
                outs = self._in_parts(group, partial(self._outputs, batch, training=False))
                for metric, out in zip(metrics, outs, strict=True):
                    metric.update(batch, out)
            errors = [metric.compute()[1] for metric in metrics]
            seconds = (time.perf_counter() - started) / len(points)
            for point, loss, error in zip(points, losses, errors, strict=True):
                point.record(loss, error, seconds)

    def save(self, path: Path) -> None:
        """Write all that the next epoch depends on, whole or not at all."""
        state: dict[str, Any] = {
            key: point.state()
            for key, point in zip(self.keys, self.points, strict=True)
            if not point.failed  # it stopped in the middle of an epoch: the next run begins it anew
        }
        state["keys"] = self.keys  # of those that failed, too
        state["together"] = self.together  # other sizes round differently
        state["inside"] = self.inside
        state["notes"] = self.notes
        write_checkpoint(path, state)

    def resume(self, path: Path) -> int:
        """Go on from a checkpoint, where it has the same trainings.  Return how many it had."""
        state = read_checkpoint(path, self.device)
        if not state:
            return 0
        had = state.keys() - {"keys", "together", "inside", "notes"}
        same = state["keys"] == self.keys if "keys" in state else had == set(self.keys)
        if not same and state["inside"].get("steps"):
            # others train beside them now: who stands within an epoch cannot go on
            log.warning("%s is of other points, within an epoch: starting again", path)
            return 0
        resumed = 0
        for key, point in zip(self.keys, self.points, strict=True):
            if key in state:
                point.load_state(state[key])
                resumed += 1
                self.together, self.inside = state["together"], state["inside"]
                log.info("going on after epoch %d of %s", point.epoch, path)
        if not same:
            self.inside = {}
        if lost := len(self.points) - resumed:
            what = "had failed" if same else "are of other settings or data, or had failed"
            log.warning("%s: %d of %d points %s, and start again", path, lost, len(self.keys), what)
        return resumed
