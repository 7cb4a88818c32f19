"""Say on the terminal of a sweep what a job is at, beside its log.

A job's log is its stderr, in a file; its stdout is the terminal of the sweep, or the output of a
cluster's job.  Where both are one place, as by hand, the log says all.
"""

import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

WIDTH = 100  # columns
EVERY = 10.0  # seconds between two lines about one thing; more after a while
SHARE = 20  # of the time so far, that passes between two lines

_kept: list[TextIO] = []  # what was stdout, while libraries print into the log


def wrapped(text: str) -> str:
    """Return a text in lines of the width, the second and later ones indented.

    Args:
        text: One line.
    """
    return textwrap.fill(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def is_apart() -> bool:
    """Return True where the log is a file of its own."""
    return bool(_kept) or not _same_file(sys.stdout, sys.stderr)


def say(text: str) -> None:
    """Print a line where the log is a file of its own, so that the terminal of a sweep has it.

    Args:
        text: The line, which the log has, too.
    """
    if is_apart():
        show(wrapped(text))


def show(text: str) -> None:
    """Print lines in one piece; in an unbuffered output, `print` writes its end alone.

    Args:
        text: The lines.
    """
    out = _kept[-1] if _kept else sys.stdout
    out.write(f"{text}\n")
    out.flush()


@contextmanager
def libraries_in_the_log() -> Iterator[None]:
    """Send what libraries print, also those in C, into the log; `say` reaches the terminal."""
    if not is_apart():
        yield
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as kept:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        _kept.append(kept)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept.fileno(), sys.stdout.fileno())
            _kept.pop()


class Often:
    """Tells when the next line about something is due: the longer it takes, the more rarely."""

    def __init__(self, at_once: bool = False) -> None:
        """Begin now.

        Args:
            at_once: Whether the first line is due now, and not after a while.
        """
        self.began = time.monotonic()
        self.last = self.began - (EVERY if at_once else 0.0)

    def due(self) -> bool:
        """Return True where a line is due, which is then taken as said."""
        now = time.monotonic()
        if now - self.last < max(EVERY, (now - self.began) / SHARE):
            return False
        self.last = now
        return True


class Meter:
    """Says how far a job is; several threads, and forked processes, may tell it.

    Attributes:
        job: What it is called in its lines; "" says nothing.
    """

    def __init__(self, job: str = "") -> None:
        """Begin.

        Args:
            job: Its name.
        """
        self.job = job if is_apart() else ""
        self._often, self._lock = Often(), threading.Lock()
        self._part, self._since, self._first = "", self._often.began, 0

    def at(self, part: str, done: int, total: int, unit: str) -> None:
        """Say how far a part is, and how long it takes to its end, where a line is due.

        Args:
            part: The part.
            done: How much of it is done.
            total: Of how much.
            unit: Of what.
        """
        with self._lock:
            if part != self._part:
                if self._part:
                    self._since, self._first = time.monotonic(), done
                self._part = part
            if self.job and self._often.due():
                left = time_left(self._since, done - self._first, total - done)
                say(f"{self.job}  {part}  {done} of {total} {unit}  {left}".rstrip())


def time_left(since: float, done: int, to_do: int) -> str:
    """Return how long a work takes to its end, at the pace so far; "" where there is none.

    Args:
        since: When it began, of the monotonic clock.
        done: How much was done since then.
        to_do: How much there is to do.
    """
    if done <= 0:
        return ""
    seconds = (time.monotonic() - since) / done * to_do
    return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def _same_file(one: Any, other: Any) -> bool:
    """Return True if two streams end in the same place."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):  # not files at all, as in a notebook
        return True
