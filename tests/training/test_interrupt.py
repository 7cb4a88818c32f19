"""Trainings that stop early, for each reason, go on to the very same end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import lora.training.session
from lora.errors import EXIT_CODE, Paused
from lora.files.lock import Lock
from lora.plan.settings import TrainSettings
from lora.steps.train import train, train_pack
from lora.training.interrupt import Interrupt
from lora.training.loop import Fit
from tests.support import counts, forkserver
from tests.support.trainings import QUICK, same, stopped


def test_stopped_after_every_step(
    inputs: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of epochs, again and again, with points of different lengths."""
    own = {"batch_size": 3, "max_num_epochs": 2}
    one = TrainSettings(rank=1, **{**QUICK, **own})
    pack = {"a": one, "b": replace(one, rank=2, max_num_epochs=3, lr=0.02)}

    def run(home: Path) -> None:
        train_pack({home / k: v for k, v in pack.items()}, **inputs, work=home / "work")

    run(tmp_path / "whole")
    steps = [0]

    def every_second(self: Interrupt) -> None:
        steps[0] += 1
        if steps[0] % 2 == 0:
            raise Paused("a test")

    monkeypatch.setattr(Interrupt, "check", every_second)
    assert stopped(lambda: run(tmp_path / "stopped")) > 5
    for name in pack:
        assert same(tmp_path / "whole" / name, tmp_path / "stopped" / name)
    assert not list((tmp_path / "stopped/work").iterdir())  # neither checkpoint nor lock


def test_reasons() -> None:
    with Interrupt(None) as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGURG)
        with pytest.raises(Paused, match="SIGURG"):
            stop.check()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with Interrupt(None, lost=lambda: True) as stop, pytest.raises(Paused, match="taken over"):
        stop.check()


def test_the_time_limit_leaves_time_for_the_longest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 minutes, steps of 10: stops when 90 s and two such steps are all that is left."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Interrupt(100) as stop:
        for minute in range(10, 200, 10):
            now[0] = 60.0 * minute
            try:
                stop.check()
            except Paused as reason:
                assert "time limit of 100 minutes" in str(reason)
                break
        assert minute == 80


def test_long_epochs_are_saved_in_between(
    inputs: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved, original = [], Fit.save
    monkeypatch.setattr(lora.training.session, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Fit, "save", lambda self, p: (saved.append(self.inside), original(self, p)))
    train(TrainSettings(rank=1, **{**QUICK, "batch_size": 3}), **inputs, out=tmp_path / "p")
    assert sum(bool(inside) for inside in saved) > 5


def test_what_another_process_made_meanwhile_is_taken(
    inputs: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = TrainSettings(rank=1, **QUICK)
    first = train(settings, **inputs, out=tmp_path / "p")
    before = (tmp_path / "p/train.json").stat().st_mtime_ns
    assert train(settings, **inputs, out=tmp_path / "p") != {}  # did not wait: trains again
    again = (tmp_path / "p/train.json").stat().st_mtime_ns
    assert again > before
    monkeypatch.setattr(Lock, "__enter__", lambda self: (setattr(self, "waited", True), self)[1])
    monkeypatch.setattr(Lock, "__exit__", lambda self, *_: None)
    taken = train(settings, **inputs, out=tmp_path / "p")
    assert (tmp_path / "p/train.json").stat().st_mtime_ns == again
    assert taken["best"]["valid_loss"] == first["best"]["valid_loss"]
    other = train(replace(settings, rank=2), **inputs, out=tmp_path / "p")  # of other settings
    assert other["settings"]["rank"] == 2


SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGURG]


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS[: counts.of(1, 3)])
def test_signals_for_real(
    files: dict[str, Path],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """A checkpoint within seconds, exit 75, and the same command goes on to the same end."""
    command = ["mace-lora", "train", *(str(files[x]) for x in ("train_file", "valid_file"))]
    command += ["--foundation", str(files["foundation"]), "--e0s_file", str(files["e0s_file"])]
    command += ["--batch_size", "3", "--max_num_epochs", "25", "--threads", "1", "--rank", "2"]
    quick = {"env": os.environ | forkserver.environment(), "check": True, "capture_output": True}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], **quick)
    command += ["--out", str(tmp_path / "p")]
    real = [sys.executable, "-m", "lora.cli", *command[1:]]
    process = subprocess.Popen(real, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "p/metrics.jsonl"
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    sent = time.monotonic()
    _, printed = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and time.monotonic() - sent < 10
    assert f"asked to stop by {number.name}; run it again to go on" in printed
    assert (tmp_path / "p/checkpoint.pt").is_file()
    subprocess.run(command, **quick)
    assert same(tmp_path / "whole", tmp_path / "p")
    assert json.loads((tmp_path / "p/train.json").read_text())["epochs"] == 25
