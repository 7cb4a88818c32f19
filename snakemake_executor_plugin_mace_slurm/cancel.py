"""Cancel all jobs of a start for good: at Ctrl-C, and at a second and third one."""

import getpass
import signal
import threading
import time
from typing import Any

from snakemake_executor_plugin_mace_slurm.ask import ask, queue

PATIENCE = 60.0  # seconds in which a controller has to answer


def interrupt_once() -> None:
    """Let the first Ctrl-C interrupt snakemake, and the next ones not its cancelling of jobs."""

    def interrupted(*_: Any) -> None:
        ignore()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupted)


def ignore() -> None:
    """Ignore Ctrl-C, also in the commands that are started from now on."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def heed() -> None:
    """Let Ctrl-C end this process again."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def cancel_all(name: str, everywhere: bool) -> bool:
    """Cancel all jobs of a name, known or not; return True once none is left that goes on.

    An sbatch that was interrupted may have submitted its job and not told its number.

    Args:
        name: What the jobs are called.
        everywhere: There are several clusters.
    """
    clusters = ["--clusters=all"] if everywhere else []
    until, empty = time.monotonic() + PATIENCE, 0
    while empty < 2 and time.monotonic() < until:  # one may just be on its way
        ask("scancel", "--user", getpass.getuser(), "--name", name, *clusters)
        there = queue(name)
        empty = 0 if there is None or any(x.goes_on for x in there.values()) else empty + 1
        time.sleep(1.0)
    return empty > 1
