"""Faults of processes, disks, clocks and memory: run again, and the result is that of no fault."""

import errno
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lora.data.structures import write_structures
from lora.errors import EXIT_CODE
from lora.files.sealed import read_json
from lora.plan.finished import finished
from tests.faults.child import (
    Chain,
    clock_set_back,
    dies_at_write,
    fails_at_write,
    fault,
    little_memory,
    memory_runs_out,
    one_does_not_fit,
    small_disk,
    steps_break,
)
from tests.support import counts
from tests.support.models import make_model
from tests.support.trainings import teacher_data

pytestmark = pytest.mark.slow
STEPS = ["split", "e0s", "train", "truncate", "merge", "evaluate", "check", "export"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    torch.save(make_model(), home / "base.model")
    write_structures(home / "data.xyz", teacher_data(12, seed=0))
    chain = Chain(home).run()
    assert len(chain.results()) > 20
    return chain


PATIENCE = 600  # seconds for the whole of a longer training beside other tests
LONGER = ("--max_num_epochs", str(counts.of(25, 600)))


@pytest.fixture(scope="module")
def longer(whole: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A training of more epochs that nothing disturbed."""
    chain = whole.before("train", tmp_path_factory.mktemp("longer") / "chain")
    step = chain.start("train", None, *LONGER)
    assert step.wait(PATIENCE) == 0, step.said()
    return chain


def equal(chain: Chain, whole: Chain, step: str) -> bool:
    """Whether a chain that was run up to a step has what the undisturbed one has, to the byte."""
    folder = {"split": "data"}.get(step, step)
    found, wanted = (
        {k: v for k, v in x.results().items() if k.startswith(f"out/{folder}/")}
        for x in (chain, whole)
    )
    assert wanted
    return found == wanted


def close(chain: Chain, whole: Chain, points: set[str]) -> None:
    """Assert that points have the adapters of the undisturbed run, to 1e-8."""
    for name in points:
        file = f"out/train/{name}/adapter/adapter.safetensors"
        found, wanted = load_file(chain.home / file), load_file(whole.home / file)
        for key, value in wanted.items():
            assert (found[key] - value).abs().max() < 1e-8


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_write(step: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    """kill -9 while a file is written: no half file has a name, and the step can be run again.

    At each of its writes; with short counts at the first and the fourth.
    """
    killed = 0
    for n in itertools.count(1) if counts.full() else (1, 4):
        chain = whole.before(step, tmp_path / str(n))
        broken = chain.start(step, fault(dies_at_write, n))
        died = broken.wait() == -signal.SIGKILL
        wanted = whole.results()
        for name, content in chain.results().items():  # whole or not there
            part = any(x.startswith(".") for x in Path(name).parts)
            assert part or content == wanted[name] or "metrics" in name
        if died:
            killed += 1
            assert not equal(chain, whole, step)
            chain.run(step)
        assert equal(chain, whole, step), n
        shutil.rmtree(tmp_path / str(n))
        if not died:  # it has fewer writes
            break
    assert killed
    told(f"kill -9 in {step} at its writes", killed, "by the next run", "equal")


@pytest.mark.long
def test_killed_at_random(whole: Chain, longer: Chain, tmp_path: Path, told: Callable) -> None:
    """kill -9 of a training at random moments, each going on where the last was killed."""
    most = counts.of(4, 200)
    chain, rng, killed = whole.before("train", tmp_path / "killed"), random.Random(4), 0
    while killed < most:
        step = chain.start("train", None, *LONGER)
        time.sleep(rng.uniform(0.1, 1.1))
        step.send(signal.SIGKILL)
        if step.wait() == 0:
            break  # it has come to its end
        killed += 1
    step = chain.start("train", None, *LONGER)
    assert step.wait(PATIENCE) == 0, step.said()
    assert killed >= most // 4 and equal(chain, longer, "train")
    told("kill -9 of a training at random moments", killed, "by the next run", "equal")


WARNINGS = [signal.SIGTERM, signal.SIGUSR1]


@pytest.mark.long
@pytest.mark.parametrize("number", WARNINGS[: counts.of(1, 2)], ids=lambda x: x.name)
def test_signals(
    number: signal.Signals, whole: Chain, longer: Chain, tmp_path: Path, told: Callable
) -> None:
    """The scheduler's warning: a checkpoint within seconds, exit 75, and the next run goes on."""
    chain = whole.before("train", tmp_path / "stopped")
    step = chain.start("train", None, *LONGER)
    checkpoint = chain.home / "out/train/packs/p/checkpoint.pt"
    while not checkpoint.is_file():
        time.sleep(0.01)
    sent = time.monotonic()
    step.send(number)
    assert step.wait() == EXIT_CODE and time.monotonic() - sent < 5
    assert f"asked to stop by {number.name}; run it again to go on" in step.said()
    assert chain.start("train", None, *LONGER).wait(PATIENCE) == 0
    assert equal(chain, longer, "train")
    told(f"{number.name} while training", 1, "exit 75 in seconds", "equal")


@pytest.mark.parametrize("step", ["split", "train", "merge", "evaluate"])
def test_disk_full(step: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    """A write that the system refuses: one line with the file, and the step can be run again."""
    chain = whole.before(step, tmp_path / "full")
    size = {"split": 2000, "train": 20_000, "merge": 60_000, "evaluate": 3000}[step]
    broken = chain.start(step, fault(small_disk, size))
    assert broken.wait() == 74, broken.said()
    (line,) = [x for x in broken.said().splitlines() if x.startswith(f"mace-lora {step}: ")]
    assert "out/" in line and "file too large; run it again when that is mended" in line
    assert "Traceback" not in broken.said()
    assert not list(chain.home.rglob(".*.part"))
    chain.run(step)
    assert equal(chain, whole, step)
    told(f"disk full in {step} (file size limit)", 1, "exit 74, one line with the file", "equal")


@pytest.mark.parametrize("step", STEPS)
def test_interrupted(step: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    """Ctrl-C: one line, and the step can be run again."""
    chain = whole.before(step, tmp_path / "interrupted")
    broken = chain.start(step, fault(fails_at_write, 1, KeyboardInterrupt()))
    assert broken.wait() == 130, broken.said()
    assert f"mace-lora {step}: interrupted; run it again" in broken.said()
    assert "Traceback" not in broken.said()
    chain.run(step)
    assert equal(chain, whole, step)
    told(f"Ctrl-C in {step}", 1, "exit 130, one line", "equal")


WRITERS = ["train", "split", "merge", "evaluate", "check", "export"]
BROKEN = counts.covering(WRITERS, ["EIO", "EROFS"])


@pytest.mark.long
@pytest.mark.parametrize(("step", "kind"), BROKEN, ids=counts.named(BROKEN))
def test_a_disk_that_breaks_in_the_middle(
    step: str, kind: str, whole: Chain, tmp_path: Path, told: Callable
) -> None:
    """After the first file that was written: the second and all others are refused."""
    chain = whole.before(step, tmp_path / "broken")
    number = getattr(errno, kind)
    error = OSError(number, os.strerror(number), "out/somewhere")
    broken = chain.start(step, fault(fails_at_write, 2, error))
    assert broken.wait() in (0, 74), broken.said()  # a step that writes one file has nothing to say
    assert "Traceback" not in broken.said() and not list(chain.home.rglob(".*.part"))
    chain.run(step)
    assert equal(chain, whole, step)
    told(f"{kind} in {step} after a first file", 1, "exit 74, one line", "equal")


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Callable]:
    """A small file system in memory, where this user may mount one; gives what remounts it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield lambda how: subprocess.run(
            ["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True
        )
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_disk_full_for_real(whole: Chain, tmp_path: Path, told: Callable) -> None:
    chain = whole.before("train", tmp_path / "full")
    with mounted(chain.home / "out/train", "100k") as remount:
        broken = chain.start("train")
        assert broken.wait() == 74, broken.said()
        assert "no space left on device" in broken.said()
        remount("size=10m")
        chain.run("train")
        assert equal(chain, whole, "train")
    told("disk full in train (a small file system)", 1, "exit 74, one line with the file", "equal")


@pytest.mark.parametrize("step", ["split", "train", "merge"])
def test_read_only(step: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    chain = whole.before(step, tmp_path / "chain")
    folder = {"split": "data"}.get(step, step)
    (chain.home / "out").mkdir(exist_ok=True)
    with mounted(chain.home / "out" / folder, "10m") as remount:
        remount("ro")
        broken = chain.start(step)
        assert broken.wait() == 74, broken.said()
        assert f"out/{folder}" in broken.said() and "read-only file system" in broken.said()
        remount("rw")
        chain.run(step)
        assert equal(chain, whole, step)
    told(f"results folder read-only in {step}", 1, "exit 74, one line with the file", "equal")


def test_clock_set_back(whole: Chain, tmp_path: Path, told: Callable) -> None:
    chain = whole.before("train", tmp_path / "late")
    step = chain.start("train", clock_set_back)
    assert step.wait() == 0, step.said()
    assert equal(chain, whole, "train")
    told("clock set back by a day while training", 1, "nothing depends on it", "equal")


def test_memory_runs_out(whole: Chain, tmp_path: Path, told: Callable) -> None:
    """The pack is halved in the middle of an epoch, said, and the step done again."""
    chain = whole.before("train", tmp_path / "small")
    step = chain.start("train", fault(memory_runs_out, 1))
    assert step.wait() == 0, step.said()
    assert "memory ran out: 1 points share a step from here on" in step.said()
    close(chain, whole, {"a", "b"})
    told("GPU memory runs out for a pack (made up)", 1, "pack halved, said", "to 1e-8")


CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)  # of libraries in C++ that cannot live without memory


@pytest.mark.parametrize("step", ["split", "train", "evaluate"])
def test_little_memory(step: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    """20 MB, or a few more, above the start: one line, or it is enough; then all is as it was."""
    ran_out = 0
    for megabytes in range(4, 64, counts.of(28, 4)):
        chain = whole.before(step, tmp_path / str(megabytes))
        broken = chain.start(step, fault(little_memory, megabytes))
        code = broken.wait()
        lines = [x for x in broken.said().splitlines() if x.startswith(f"mace-lora {step}: ")]
        assert "Traceback" not in broken.said(), broken.said()
        if code in CRASHES:
            assert not lines and (code != -signal.SIGABRT or "terminate" in broken.said())
        else:
            assert (code, len(lines)) in ((0, 0), (71, 1), (2, 1)), (megabytes, broken.said())
        assert all("memory ran out" in x for x in lines), lines
        ran_out += code != 0
        if step == "train" and code > 0:
            for _ in range(3):
                last = chain.start(step, fault(little_memory, megabytes), "--give_up", "1")
                if last.wait() not in CRASHES:
                    break
            assert last.wait() == 0, (megabytes, last.said())
            assert "Traceback" not in last.said(), last.said()
            found = read_json(chain.home / "out/train/packs/p.json")
            assert all("memory" in x["reason"] for x in found.values() if x["ended_by"] == "failed")
        chain.run(step)
        assert equal(chain, whole, step) or step == "train"
    assert ran_out or step == "split"
    told(f"little memory in {step}", ran_out, "exit 71, one line", "equal")


WRONG = {
    "memory runs out for one of two points (made up)": (
        fault(one_does_not_fit, 2),
        {"a": r"memory ran out in epoch [12] with batch_size 3, valid_batch_size \d+; lower them"},
        2,
    ),
    "a training crashes (made up)": (
        fault(steps_break, "lora"),
        dict.fromkeys("ab", "RuntimeError: CUDA error: an illegal memory access"),
        1,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_points_that_fail(name: str, whole: Chain, tmp_path: Path, told: Callable) -> None:
    """The job fails; at its last try the points are marked, the others finished; then all equal."""
    wrong, failed, code = WRONG[name]
    chain = whole.before("train", tmp_path / "failed")
    step = chain.start("train", wrong)
    assert step.wait() == code and re.search(failed["a"], step.said())
    assert not (chain.home / "out/train/packs/p.json").exists()
    step = chain.start("train", wrong, "--give_up", "1")
    assert step.wait() == 0, step.said()
    left = finished(chain.home / "out/train/packs/p.json")
    if left:  # later steps leave out what failed
        Chain(chain.home, left).run("merge", "evaluate")
    found = read_json(chain.home / "out/train/packs/p.json")
    assert {k for k, x in found.items() if x["ended_by"] == "failed"} == {*failed}
    assert left == [x for x in "ab" if x not in failed]
    for point, why in failed.items():
        assert re.fullmatch(why, found[point]["reason"])
        assert not (chain.home / "out/train" / point / "adapter").exists()
    times = read_json(chain.home / "out/train/packs/p/failed.json")
    assert times["times"] == 1 and times["points"].keys() == failed.keys()
    close(chain, whole, {"a", "b"} - {*failed})
    chain.run("train")
    close(chain, whole, {"a", "b"})
    assert not (chain.home / "out/train/packs/p/checkpoint.pt").exists()
    told(name, 1, "marked failed, with its reason", "to 1e-8")
