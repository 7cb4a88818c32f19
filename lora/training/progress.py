"""Show a training to people while it runs."""

import logging
import sys
import time
from typing import Any

from lora.files.terminal import Often, is_apart, say, time_left

log = logging.getLogger(__name__)


class Progress:
    """Context that shows a bar for each point on a terminal, or else a line an epoch in the log.

    Where the log is a file of its own, some of its lines are printed, too, shorter: they are what
    is seen in the terminal of a sweep, and in the output of a cluster job.  Of points that train
    together, those are of the first, and of each at its end.

    Args:
        epochs: The most that a point trains.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        # epoch and time at which a point was first seen
        self.began: dict[str, tuple[int, float]] = {}
        self.often = Often(at_once=True)
        self.aloud = is_apart()

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.start()
        return self

    def show(self, name: str, history: list[dict[str, Any]]) -> None:
        """Show the last epoch of a point's history."""
        now, best = history[-1], min(line["valid_loss"] for line in history)
        errors = (
            f"E {_number(now['valid_rmse_e_mev_per_atom'])} meV/atom  "
            f"F {_number(now['valid_rmse_f_mev_per_a'])} meV/Å"
        )
        text = (
            f"{name}  epoch {now['epoch']:>4}/{self.epochs}  valid loss {now['valid_loss']:.3e}"
            f"{'*' if now['valid_loss'] == best else ' '} {errors}  "
            f"lr {now['lr']:.1e}  {now['seconds']:.1f} s"
        )
        if self.bar:
            if name not in self.tasks:
                self.tasks[name] = self.bar.add_task(name, total=self.epochs)
            self.bar.update(self.tasks[name], completed=now["epoch"], description=text)
            return
        left = self._left(name, now["epoch"])
        log.info("%s  %s", text, left)
        if self.aloud and (now["epoch"] == self.epochs or self.often.due()):
            say(f"{name}  epoch {now['epoch']:>4}/{self.epochs}  {errors}  {left}".rstrip())

    def _left(self, name: str, epoch: int) -> str:
        """Say how long it takes to the last epoch, at the pace so far."""
        first, since = self.began.setdefault(name, (epoch, time.monotonic()))
        return time_left(since, epoch - first, self.epochs - epoch)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def _number(value: float | None) -> str:
    """Return an error of seven characters; a dash where there is none."""
    return f"{'-':>7}" if value is None else f"{value:7.2f}"
