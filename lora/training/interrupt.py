"""Stop a training before its end, with a checkpoint, so that it can be run again.

There are three reasons: a signal that asks for it, a time limit that is near, or a lock that
another process has taken.  A training asks between two steps; nothing is cut off in the middle.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from lora.errors import Paused

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGURG)  # what schedulers send as a warning


class Interrupt:
    """Context that watches for reasons to stop.

    Args:
        minutes: The time limit, None for none; a tenth of it, at most 90 s, is kept back for
            writing, and so is twice the longest time that passed between two questions.
        lost: Returns True once another process has taken the lock.
        agree: Makes one answer of those of several processes, so that all stop at the same step.
    """

    def __init__(
        self,
        minutes: float | None,
        lost: Callable[[], bool] = lambda: False,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        self.agree = agree
        self.limit = 60 * minutes if minutes else None
        self.lost = lost
        self.signal = ""
        self.before: dict[signal.Signals, Any] = {}
        self.asked = self.started = time.monotonic()
        self.longest = 0.0

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # only it may have handlers
            self.before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number).name

    def check(self) -> None:
        """Raise Paused if there is a reason to stop."""
        reason = self._reason()
        if self.agree(bool(reason)):
            raise Paused(reason or "another process of this training has to stop")

    def _reason(self) -> str:
        """Return why to stop, "" if there is no reason."""
        now = time.monotonic()
        self.longest, self.asked = max(self.longest, now - self.asked), now
        if self.lost():
            return "another process has taken over this training"
        if self.signal:
            return f"asked to stop by {self.signal}"
        if self.limit and now - self.started > self.limit - self._kept_back():
            return f"the time limit of {self.limit / 60:g} minutes is near"
        return ""

    def _kept_back(self) -> float:
        """Return the seconds of the limit that are left for writing."""
        return min(90.0, 0.1 * (self.limit or 0.0)) + 2 * self.longest
