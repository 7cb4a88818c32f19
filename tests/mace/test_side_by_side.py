"""Models side by side: results in their order, and no process that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lora.errors import UserError, UserErrors
from lora.mace.processes import side_by_side

CHILDREN = """
import os, sys, time
from lora.mace.processes import side_by_side

def work(name):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    time.sleep(600)

side_by_side(work, ["a", "b"], 2)
"""


def facts(item: int) -> tuple[int, int, int]:
    return item**2, os.getpid(), torch.get_num_threads()


def test_results_come_in_order_from_processes_of_one_thread() -> None:
    found = side_by_side(facts, range(5), 2)
    assert [x[0] for x in found] == [0, 1, 4, 9, 16]
    pids = [x[1] for x in found]
    assert pids[0] == pids[2] == pids[4] != pids[1] == pids[3] and os.getpid() not in pids
    assert {x[2] for x in found} == {1}


@pytest.mark.parametrize(("items", "threads"), [(1, 2), (3, 1), (3, None)])
def test_one_model_or_one_thread_needs_no_other_process(items: int, threads: int | None) -> None:
    before = torch.get_num_threads()
    try:
        found = side_by_side(facts, range(items), threads)
        assert {x[1:] for x in found} == {(os.getpid(), threads or before)}
    finally:
        torch.set_num_threads(before)


def test_where_there_is_a_gpu_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    before = torch.get_num_threads()
    try:
        assert {x[1:] for x in side_by_side(facts, range(3), 2)} == {(os.getpid(), 2)}
    finally:
        torch.set_num_threads(before)


def test_none() -> None:
    assert side_by_side(facts, [], 2) == []


def fail(item: int) -> int:
    if item == 1:
        raise UserErrors(["one", "two"])
    if item == 2:
        raise UserError("another")
    return item


def test_what_the_first_one_raises_is_raised() -> None:
    with pytest.raises(UserErrors) as caught:
        side_by_side(fail, range(3), 3)
    assert caught.value.lines == ["one", "two"]


def die(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_process_that_dies_is_said() -> None:
    with pytest.raises(RuntimeError, match="ended without an answer"):
        side_by_side(die, range(2), 2)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", CHILDREN, str(tmp_path)])
    while len(pids := [int(x.name) for x in tmp_path.iterdir()]) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    assert all(map(lives, pids))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(lives, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
