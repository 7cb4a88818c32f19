"""Machines whose clocks are hours apart, on one results folder.

A process in a namespace of its own is another machine to a lock.  Its clock is set ahead inside it
(under libfaketime Python 3.11 either cannot sleep or never wakes); files are dated by the kernel,
which stands for the file server.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lora.files.lock import Lock, Taken
from tests.support.results import make_sweep

APART = [-7200, -3600, 0, 3600, 7200]  # seconds
AHEAD = """
import time
clock = time.time
time.time = lambda: clock() + {ahead}
"""
HOLD = """
import sys, time
from lora.files import lock
lock.BEAT = 0.2
with lock.Lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""
WAIT = """
import sys, time
from lora.files import lock
lock.BEAT, lock.STALE = 0.1, float(sys.argv[2])
with lock.Lock(sys.argv[1]) as mine:
    print("waited" if mine.waited else "free", flush=True)
"""
STATES = """
import sys, json
from lora.cli.status import status
print(json.dumps({x["point"]: x["state"] for x in status(sys.argv[1])}))
"""
Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Start]:
    """Start Python on another machine, whose clock is so many seconds ahead."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("this user may not make a process namespace")
    started = []

    def start(ahead: int, code: str, *arguments: object) -> subprocess.Popen:
        command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
        command += [AHEAD.format(ahead=ahead) + code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def said(process: subprocess.Popen) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_another_clock_is_another_clock(elsewhere: Start) -> None:
    told = float(said(elsewhere(-7200, "import time; print(time.time())")))
    assert 7100 < time.time() - told < 7300


def test_states_are_the_same_by_any_clock(elsewhere: Start, tmp_path: Path, told: Callable) -> None:
    """One point trains on a machine that is an hour ahead, one was left there three hours ago."""
    sweep = make_sweep(tmp_path, pack={"size": 1}, baselines=[])
    locks = {x.points[0].name: sweep.layout.work(x.name) / "lock" for x in sweep.packs.values()}
    trains, left = locks
    assert said(elsewhere(3600, HOLD, locks[trains])) == "held"
    gone = elsewhere(3600, HOLD, locks[left])
    assert said(gone) == "held"
    gone.kill()
    gone.wait()
    old = time.time() - 3 * 3600
    os.utime(locks[left], (old, old))
    for ahead in APART:
        rows = json.loads(said(elsewhere(ahead, STATES, sweep.layout.results)))
        assert rows == {trains: "training", left: "waiting"}, ahead
    told("status by clocks of up to two hours apart", len(APART), "nothing depends on it", "equal")


def test_a_lock_is_kept_and_taken_over_by_any_clock(
    elsewhere: Start, tmp_path: Path, told: Callable
) -> None:
    """While the holder beats nobody gets it; once it is killed, everybody who waits."""
    for ahead in (-3600, 3600):
        path = tmp_path / f"lock{ahead}"
        holder = elsewhere(ahead, HOLD, path)
        assert said(holder) == "held"
        waits = elsewhere(-ahead, WAIT, path, 3)
        time.sleep(6)  # twice as long as a silent lock lives
        assert waits.poll() is None and path.is_file()
        holder.send_signal(signal.SIGKILL)
        assert said(waits) == "waited"
    told("a lock held by clocks of two hours apart", 2, "by its silence", "equal")


def test_this_machine_is_refused_while_another_is_there(elsewhere: Start, tmp_path: Path) -> None:
    assert said(elsewhere(7200, HOLD, tmp_path / "lock")) == "held"
    with pytest.raises(Taken, match="process"), Lock(tmp_path / "lock", wait=False):
        pass
