"""Steps of `mace-lora` in processes of their own, which can be broken and killed.

They are forked from a server that has imported everything, so that each starts at once.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.preload"])
CLOCKS = ("seconds", "timestamp", "system", "machine", "peak_memory_mb", "atoms_per_second", "seal")


class Step:
    """A running `mace-lora ARGV` in a folder; `log` is what it prints."""

    def __init__(self, home: Path, argv: list[str], fault: Callable | None = None) -> None:
        self.log = home / f".{argv[0]}.log"
        self.process = CONTEXT.Process(target=_run, args=(home, argv, fault, self.log))
        self.process.start()

    def wait(self, seconds: float = 120) -> int:
        """Its exit code, negative for the signal that killed it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running: {self.said()}")
        return int(self.process.exitcode)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)

    def said(self) -> str:
        """What it has printed, without the lines that the log marks as INFO."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        return "\n".join(line for line in lines if " INFO " not in line)


def _run(home: Path, argv: list[str], fault: Callable | None, log: Path) -> None:
    os.chdir(home)
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    from lora.cli.main import main

    if fault:
        fault()
    code = main(argv)
    sys.stderr.flush()
    os._exit(code)


# --- faults: what is done to a process before it begins


def dies_at_write(n: int) -> None:
    """kill -9 when the n-th file is written but has not its name yet."""
    count, replace = 0, Path.replace

    def deadly(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = deadly  # type: ignore[method-assign]


def fails_at_write(n: int, raised: BaseException) -> None:
    """Raise an error when the n-th file is written but has not its name yet, and ever after."""
    count, replace = 0, Path.replace

    def broken(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count >= n:
            raise raised
        return replace(self, target)

    Path.replace = broken  # type: ignore[method-assign]


def small_disk(size: int) -> None:
    """No file may grow over `size` bytes: the system refuses the write, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def little_memory(megabytes: int) -> None:
    """The process gets so much more memory than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def clock_set_back() -> None:
    """From the fifth question on, the clock is a day behind."""
    now, asked = time.time, 0

    def late() -> float:
        nonlocal asked
        asked += 1
        return now() - (86_400 if asked > 5 else 0)

    time.time = late


def _from_step(first: int, wrong: Callable[[Any, list[int]], Exception | None]) -> None:
    """From some step on, a step of a group raises what `wrong` gives of the fit and the group."""
    from lora.training.loop import Fit

    backward, steps = Fit._backward, 0

    def broken(self: Fit, batch: Any, group: list[int]) -> list:
        nonlocal steps
        steps += 1
        if steps >= first and (error := wrong(self, group)):
            raise error
        return backward(self, batch, group)

    Fit._backward = broken  # type: ignore[method-assign]


def memory_runs_out(most: int) -> None:
    """From the fourth step on, more than `most` points at once do not fit, as on a full GPU."""
    from torch import OutOfMemoryError

    _from_step(4, lambda _, group: OutOfMemoryError("full") if len(group) > most else None)


def one_does_not_fit(rank: int) -> None:
    """From the fourth step on there is no room for a point of this rank, not even alone."""
    from torch import OutOfMemoryError

    def wrong(fit: Any, group: list[int]) -> Exception | None:
        ranks = [fit.points[i].settings.rank for i in group]
        return OutOfMemoryError("full") if rank in ranks else None

    _from_step(4, wrong)


def steps_last(seconds: float) -> None:
    """Make every step of a training last."""
    from lora.training.loop import Fit

    step = Fit.train_step

    def slow(self: Any, batch: Any, group: list[int]) -> list[Any]:
        time.sleep(seconds)
        return step(self, batch, group)

    Fit.train_step = slow


def steps_break(method: str) -> None:
    """All steps of a method fail, as with a bug or a broken GPU."""

    def wrong(fit: Any, group: list[int]) -> Exception | None:
        mine = fit.points[group[0]].settings.method == method
        return RuntimeError("CUDA error: an illegal memory access\nmore") if mine else None

    _from_step(1, wrong)


# --- a chain of steps, and what its results are


class Chain:
    """Every step from data to export on a tiny model, in a folder."""

    def __init__(self, home: Path, later: Sequence[str] = ("a", "b")) -> None:
        """`later`: the points that are merged and evaluated."""
        self.home = home
        base = ["--foundation", "base.model", "--threads", "1"]
        sets = ["--valid_file", "out/data/valid.xyz", "--test_file", "out/data/test.xyz"]
        points = {"a": {"rank": 2, "lr": 0.02}, "b": {"rank": 1, "alpha": 4.0}}
        merged = [f"out/merge/{x}/{x}.model" for x in later]
        self.steps = {
            "split": ["data.xyz", "--out", "out/data", "--valid_fraction", "0.25"],
            "e0s": ["out/data/train.xyz", *base, "--out", "out/e0s/e0s.json"],
            "train": [
                *("out/data/train.xyz", "out/data/valid.xyz", *base),
                *("--e0s_file", "out/e0s/e0s.json", "--points", json.dumps(points)),
                *("--batch_size", "3", "--max_num_epochs", "2", "--ema_decay", "0.5"),
                *("--out", "out/train", "--work", "out/train/packs/p"),
                *("--receipt", "out/train/packs/p.json"),
            ],
            "truncate": [*base, "--adapter", "out/train/a/adapter", "--rank", "1"]
            + ["--out", "out/truncate/a1"],
            "merge": [
                *(*base, "--adapter", *(f"out/train/{x}/adapter" for x in later)),
                *("--check_file", "out/data/valid.xyz", "--out", *merged),
                *("--receipt", "out/merge/packs/p.json"),
            ],
            "evaluate": [*merged, *sets, "--threads", "1"]
            + ["--out", *(f"out/evaluate/{x}.json" for x in later)]
            + ["--receipt", "out/evaluate/packs/p.json"],
            "check": [
                *("out/merge/a/a.model", "--names", "gradients", "--threads", "1"),
                *("--valid_file", "out/data/valid.xyz", "--e0s_file", "out/e0s/e0s.json"),
                *("--out", "out/check/a.json"),
            ],
            "export": ["out/merge/a/a.model", "--engines", "ase", "--out", "out/export/a"],
        }

    def start(self, step: str, fault: Callable | None = None, *more: str) -> Step:
        return Step(self.home, [step, *self.steps[step], *more], fault)

    def run(self, *steps: str) -> "Chain":
        """Run steps undisturbed."""
        for step in steps or self.steps:
            started = self.start(step)
            assert started.wait() == 0, started.said()
        return self

    def before(self, step: str, home: Path) -> "Chain":
        """A copy of this chain as it was before a step."""
        names = list(self.steps)
        done = {"split": "data"}
        skip = [done.get(x, x) for x in names[names.index(step) :]]
        home.mkdir(parents=True)
        for name in ("base.model", "data.xyz"):
            shutil.copy(self.home / name, home / name)
        for folder in (self.home / "out").iterdir() if (self.home / "out").is_dir() else []:
            if folder.name not in skip:
                shutil.copytree(folder, home / "out" / folder.name)
        return Chain(home)

    def results(self) -> dict[str, Any]:
        """All files with their contents, without what clocks and machines say."""
        found = {}
        for path in sorted((self.home / "out").rglob("*")):
            if path.is_dir() or path.name in ("checkpoint.pt", "lock", "config.json"):
                continue
            name = str(path.relative_to(self.home))
            if path.suffix in (".json", ".jsonl"):
                lines = (
                    [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
                )
                found[name] = [_without_clocks(json.loads(line)) for line in lines]
            else:
                found[name] = path.read_bytes()
        return found


def _without_clocks(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _without_clocks(v) for k, v in content.items() if k not in CLOCKS}
    return [_without_clocks(x) for x in content] if isinstance(content, list) else content


def fault(function: Callable, *values: Any) -> Callable:
    """A fault with its values, to be sent to a process."""
    return partial(function, *values)
