"""The fork server of the tests: its commands do what the real ones do, and die as they die."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora.data.structures import write_structures
from tests.faults.child import Chain
from tests.support import counts, forkserver
from tests.support.models import make_model
from tests.support.trainings import teacher_data

pytestmark = pytest.mark.slow
STEPS = ("split", "e0s", "train", "merge")
COMPARED = STEPS if counts.full() else ("split", "train")  # the others are forked in both


@pytest.fixture(scope="module")
def forked() -> dict[str, str]:
    return os.environ | forkserver.environment() | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def real() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def chain(home: Path) -> Chain:
    home.mkdir()
    torch.save(make_model(), home / "base.model")
    write_structures(home / "data.xyz", teacher_data(12, seed=0))
    return Chain(home)


def ran(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def without_clock(text: str) -> list[str]:
    """The words of a log; numbers with a point may be times, and what is left is one."""
    timeless = re.sub(r"\d+ (s|min|h) left", "", text)
    return [word for word in timeless.split() if not any(x in word for x in ".:")]


@pytest.mark.long
def test_results_and_logs_are_those_of_the_real_command(
    forked: dict, real: dict, tmp_path: Path
) -> None:
    made = [chain(tmp_path / name) for name in ("forked", "real")]
    for step in STEPS:
        command = ["mace-lora", step, *made[0].steps[step]]
        environments = (forked, real if step in COMPARED else forked)
        a, b = (ran(command, x.home, env) for x, env in zip(made, environments, strict=True))
        assert a.returncode == b.returncode == 0, a.stderr + b.stderr
        assert without_clock(a.stdout) == without_clock(b.stdout)
        assert without_clock(a.stderr) == without_clock(b.stderr)
    assert made[0].results() == made[1].results()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("mace-lora --help", 0),
        ("mace-lora split no.xyz --out o", 2),
        ("mace-lora no_step", 2),
        ("snakemake --version", 0),
        ("snakemake -n", 1),  # there is no Snakefile
        ("python -c print(1)", 0),
    ],
)
def test_words_and_exit_codes(
    command: str, code: int, forked: dict, real: dict, tmp_path: Path
) -> None:
    a, b = (ran(command.split(), tmp_path, env) for env in (forked, real))
    assert a.returncode == b.returncode == code
    assert (a.stdout, a.stderr) == (b.stdout, b.stderr)


def lines_of(home: Path) -> list[str]:
    """What a training has written of its epochs."""
    return [line for x in home.rglob("metrics.jsonl") for line in x.read_text().splitlines()]


@pytest.fixture
def training(forked: dict, tmp_path: Path) -> Callable[..., subprocess.Popen]:
    """Start a long training, and wait until it is on its way."""
    made = chain(tmp_path / "chain").run("split", "e0s")

    def start(**environment: str) -> subprocess.Popen:
        own = [*made.steps["train"], "--max_num_epochs", "100000"]
        log = (made.home / "log").open("w")
        command = ["mace-lora", "train", *own]
        env = forked | environment
        process = subprocess.Popen(command, cwd=made.home, env=env, stdout=log, stderr=log)
        while len(lines_of(made.home)) < 2:  # the first step imports torch's compiler
            assert process.poll() is None, (made.home / "log").read_text()
            time.sleep(0.02)
        return process

    return start


def works(home: Path) -> bool:
    """Whether a training writes."""
    files = list(home.rglob("metrics.jsonl"))
    before = [x.stat().st_size for x in files]
    time.sleep(1)
    return before != [x.stat().st_size for x in files]


def test_killed_with_its_client(training: Callable, tmp_path: Path) -> None:
    process = training()
    assert works(tmp_path)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.5)
    assert not works(tmp_path)


def test_kill_of_the_command_ends_its_client(training: Callable, tmp_path: Path) -> None:
    process = training()
    lines = Path(os.environ[forkserver.HOME], "log").read_text().splitlines()
    own = [x for x in lines if "mace-lora train" in x and x.endswith(f" {tmp_path / 'chain'}")]
    pid = int(own[-1].split()[0])
    os.kill(pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def test_signals_arrive(training: Callable, tmp_path: Path) -> None:
    process = training()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75
    assert "asked to stop by SIGTERM" in (tmp_path / "chain/log").read_text()


def test_two_at_once(forked: dict, tmp_path: Path) -> None:
    """Each in its folder, with its environment and limits."""
    code = "import os, sys; print(os.getcwd(), os.environ['MINE'], file=sys.stderr)"
    processes = []
    for name in ("a", "b"):
        home = tmp_path / name
        (home / "lora/cli").mkdir(parents=True)
        (home / "lora/__init__.py").write_text("")
        (home / "lora/cli/__init__.py").write_text(f"def main():\n    {code}\n    input()\n    1/0")
        env = forked | {"PYTHONPATH": str(home), "MINE": name}
        pipe = subprocess.PIPE
        command = ["mace-lora"]
        processes.append(
            subprocess.Popen(command, cwd=home, env=env, stdin=pipe, stderr=pipe, text=True)
        )
    for name, process in zip(("a", "b"), processes, strict=True):
        assert process.stderr and process.stderr.readline().split() == [str(tmp_path / name), name]
        assert process.poll() is None
    for process in processes:
        _, said = process.communicate("go on\n")
        assert process.returncode == 1 and "ZeroDivisionError" in said


def test_the_real_command_where_a_fork_cannot_be_it(forked: dict, tmp_path: Path) -> None:
    """Where there is no server; with a library that is loaded before all others."""
    env = forked | {forkserver.SOCKET: str(tmp_path / "none")}
    assert ran(["mace-lora", "--help"], tmp_path, env).returncode == 0
    done = ran(["mace-lora", "--help"], tmp_path, forked | {"LD_PRELOAD": "none.so"})
    assert done.returncode == 0 and "none.so" in done.stderr


def test_what_a_test_brings_in_comes_first(forked: dict, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.umask(0o77); print('first')")
    env = forked | {"PYTHONPATH": f"{tmp_path}:{forkserver.ROOT}"}
    assert ran(["mace-lora", "--help"], tmp_path, env).stdout.startswith("first\nusage")
