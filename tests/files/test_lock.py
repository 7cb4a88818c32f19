"""The lock of a folder: one at a time, left-behind locks taken over, losers told."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lora.files.lock
from lora.files.lock import Lock, Taken


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.files.lock, "BEAT", 0.02)
    monkeypatch.setattr(lora.files.lock, "STALE", 0.3)


def left_behind(path: Path, **changes: object) -> None:
    """A lock of a process that will not say anything any more."""
    about = {"token": "old", "where": "elsewhere", "pid": 1, "beats": 3, "host": "node7"}
    path.write_text(json.dumps(about | changes))


def test_one_at_a_time(tmp_path: Path, quick: None) -> None:
    """Eight threads in and out of one lock: never two inside, and none gives up."""
    inside, most, done = [], [], []

    def work() -> None:
        for _ in range(3):
            with Lock(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.01)
                inside.pop()
            done.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 24 and max(most) == 1
    assert not list(tmp_path.iterdir())


def test_a_living_one_is_waited_for(tmp_path: Path, quick: None) -> None:
    """Far longer than a lock may be silent, as long as its heart beats."""
    order = []
    with Lock(tmp_path / "lock") as first:

        def second() -> None:
            with Lock(tmp_path / "lock") as lock:
                order.append("second")
                assert lock.waited

        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1.0)
        order.append("first")
        assert not first.is_lost() and not first.waited
    thread.join(30)
    assert order == ["first", "second"]


def test_a_silent_one_is_taken_over(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(tmp_path / "lock")
    started = time.monotonic()
    with Lock(tmp_path / "lock"):
        assert time.monotonic() - started > 0.3
    assert "taken over from process 1 on node7" in caplog.text


def test_a_dead_process_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], text=True,
                          capture_output=True, check=True)  # fmt: skip
    left_behind(tmp_path / "lock", where=lora.files.lock._here(), pid=int(gone.stdout))
    started = time.monotonic()
    with Lock(tmp_path / "lock"):
        assert time.monotonic() - started < lora.files.lock.STALE / 10


def test_who_lost_it_is_told_and_leaves_the_others_lock(tmp_path: Path, quick: None) -> None:
    with Lock(tmp_path / "lock") as lock:
        left_behind(tmp_path / "lock", token="thief")
        deadline = time.monotonic() + 30
        while not lock.is_lost():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert json.loads((tmp_path / "lock").read_text())["token"] == "thief"


def test_a_broken_file_is_waited_out(tmp_path: Path, quick: None) -> None:
    (tmp_path / "lock").write_text('{"token": "ha')
    with Lock(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["123", "[]", "null", "{", "", "\0", '{"pid": 1e99}'])
def test_nonsense_is_a_lock_that_was_left_behind(tmp_path: Path, quick: None, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    with Lock(tmp_path / "lock") as lock:
        assert not lock.is_lost()


def test_a_failed_read_and_a_full_disk_lose_nothing(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a training stopped, without a checkpoint, for what it took for another process."""
    monkeypatch.setattr(lora.files.lock, "BEAT", 0.02)
    opened, path = Path.open, tmp_path / "lock"

    def broken(self: Path, *args: object, **own: object) -> object:
        if self == path:
            raise OSError(28, "No space left on device", str(path))
        return opened(self, *args, **own)

    with Lock(path) as lock:
        monkeypatch.setattr(Path, "open", broken)
        time.sleep(0.2)
        monkeypatch.setattr(Path, "open", opened)
        path.write_text("")  # cut short by a full disk
        time.sleep(0.1)
        assert not lock.is_lost() and lock.token in path.read_text()
    assert not path.exists()


def test_who_does_not_wait_is_told_who_is_there(tmp_path: Path, quick: None) -> None:
    with Lock(tmp_path / "lock"), pytest.raises(Taken, match=f"process {os.getpid()} on "):
        Lock(tmp_path / "lock", wait=False).__enter__()
    left_behind(tmp_path / "lock")
    with Lock(tmp_path / "lock", wait=False) as lock:  # nothing beats there
        assert not lock.waited or not lock.is_lost()


def test_a_copy_of_a_lock_holds_nothing(tmp_path: Path) -> None:
    """Of a folder that was copied while its process worked: not even waited for."""
    with Lock(tmp_path / "lock"):
        (tmp_path / "copy").write_text((tmp_path / "lock").read_text())
        with Lock(tmp_path / "copy") as lock:
            assert not lock.waited
