"""What a person sees of a training while it runs."""

import logging
import sys
from typing import Any

log = logging.getLogger(__name__)


class Progress:
    """A bar a point with its errors on a terminal, a line an epoch in a log."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.bar = epochs, None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.start()
        return self

    def show(self, name: str, history: list[dict]) -> None:
        """Show the last epoch of a point's history."""
        now, best = history[-1], min(line["valid_loss"] for line in history)
        text = (
            f"{name}  epoch {now['epoch']:>4}/{self.epochs}  valid loss {now['valid_loss']:.3e}"
            f"{'*' if now['valid_loss'] == best else ' '} "
            f"E {now['valid_rmse_e_mev_per_atom']:7.2f} meV/atom  "
            f"F {now['valid_rmse_f_mev_per_a']:7.2f} meV/Å  "
            f"lr {now['lr']:.1e}  {now['seconds']:.1f} s"
        )
        if self.bar:
            if name not in self.tasks:
                self.tasks[name] = self.bar.add_task(name, total=self.epochs)
            self.bar.update(self.tasks[name], completed=now["epoch"], description=text)
        else:
            log.info(text)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
