"""Work on several models at once, each in a process of its own.

A second thread gains little on a small model, and costs much where cores are shared; a second
process gains all of it.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from lora.mace.device import set_threads

PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent ends

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int | None
) -> list[Result]:
    """Return what a function returns for each item, in their order.

    With several threads and several items, the items are shared out among forked processes of one
    thread.  They end when this process ends, however it does.  Call it before torch has computed
    with several threads, which do not survive a fork.  Nor do those of autograd where there is a
    GPU, used or not: there, all items are worked on in this process.

    Args:
        work: The function; what it returns, or raises, has to be pickled.
        items: What it is called with.
        threads: CPU threads; None leaves the number to torch, in this process.

    Raises:
        Exception: What the function raises, of the first item that fails.
        RuntimeError: A process ended without an answer.
    """
    n = min(threads or 1, len(items))
    if n <= 1 or sys.platform != "linux" or torch.accelerator.is_available():
        set_threads(threads)
        return [work(item) for item in items]
    started = [_start(work, items[i::n]) for i in range(n)]
    try:
        answers = [_answer(started[i % n][1]) for i in range(len(items))]
    finally:
        for process, connection in started:
            connection.close()
            process.terminate()
            process.join()
    return answers


def end_with(parent: int) -> None:
    """Let this process, forked by another, end when that one ends, however it does.

    Args:
        parent: The other process.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _start(
    work: Callable[[Item], Result], items: Sequence[Item]
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """Start a process that works on some items."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, items, writer, os.getpid()), daemon=True)
    process.start()
    writer.close()
    return process, reader


def _work(
    work: Callable[[Item], Result], items: Sequence[Item], to: Connection, parent: int
) -> None:
    """Be such a process."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    set_threads(1)
    for item in items:
        try:
            to.send((work(item), None))
        except Exception as error:
            to.send((None, error))


def _answer(connection: Connection) -> Any:
    """Wait for the next answer of a process."""
    try:
        result, error = connection.recv()
    except EOFError:
        raise RuntimeError("a process ended without an answer; was it out of memory?") from None
    if error is not None:
        raise error
    return result
