"""Show a training to people while it runs."""

import logging
import os
import sys
import time
from typing import Any

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two lines about a point beside the log


class Progress:
    """Context that shows a bar for each point on a terminal, or else a line an epoch in the log.

    Where the log is a file of its own, some of its lines are printed, too: they are what is seen
    in the terminal of a sweep, and in the output of a cluster job.

    Args:
        epochs: The most that a point trains.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        # epoch and time at which a point was first seen
        self.began: dict[str, tuple[int, float]] = {}
        self.printed: dict[str, float] = {}
        self.aloud = not _same_file(sys.stdout, sys.stderr)

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
        text = (
            f"{name}  epoch {now['epoch']:>4}/{self.epochs}  valid loss {now['valid_loss']:.3e}"
            f"{'*' if now['valid_loss'] == best else ' '} "
            f"E {_number(now['valid_rmse_e_mev_per_atom'])} meV/atom  "
            f"F {_number(now['valid_rmse_f_mev_per_a'])} meV/Å  "
            f"lr {now['lr']:.1e}  {now['seconds']:.1f} s"
        )
        if self.bar:
            if name not in self.tasks:
                self.tasks[name] = self.bar.add_task(name, total=self.epochs)
            self.bar.update(self.tasks[name], completed=now["epoch"], description=text)
            return
        text += f"  {self._left(name, now['epoch'])}"
        log.info(text)
        last = now["epoch"] == self.epochs
        if self.aloud and (last or time.monotonic() - self.printed.get(name, -EVERY) >= EVERY):
            self.printed[name] = time.monotonic()
            _print(text)

    def _left(self, name: str, epoch: int) -> str:
        """Say how long it takes to the last epoch, at the pace so far."""
        first, since = self.began.setdefault(name, (epoch, time.monotonic()))
        if epoch == first:
            return ""
        seconds = (time.monotonic() - since) / (epoch - first) * (self.epochs - epoch)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def _number(value: float | None) -> str:
    """Return an error of seven characters; a dash where there is none."""
    return f"{'-':>7}" if value is None else f"{value:7.2f}"


def say(text: str) -> None:
    """Print a line where the log is a file of its own, so that the terminal of a sweep has it.

    Args:
        text: The line, which the log has, too.
    """
    if not _same_file(sys.stdout, sys.stderr):
        _print(text)


def _print(text: str) -> None:
    """Print a line in one piece; in an unbuffered output, `print` writes its end alone."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _same_file(one: Any, other: Any) -> bool:
    """Return True if two streams end in the same place."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):  # not files at all, as in a notebook
        return True
