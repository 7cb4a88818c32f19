"""Jobs as forks: what others see of them is what they see of a `mace-lora` that does its job."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from lora.data.structures import write_structures
from lora.plan import warm
from lora.plan.start import Start
from tests.faults.child import Chain
from tests.support.models import make_model
from tests.support.sweep import Sweep
from tests.support.trainings import lines_of, teacher_data

COMMAND = str(Path(sys.executable).parent / "mace-lora")  # the real one
ROOT = Path(__file__).parents[2]


class Serving:
    """A server, the process that it serves, and the environment of that one's children."""

    def __init__(self, home: Path, library: Path = ROOT) -> None:
        home.mkdir()
        self.home = home
        self.owner = subprocess.Popen(["sleep", "600"])
        self.environment = os.environ | {"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "lora.cli.warm", str(home), str(self.owner.pid)]
        self.server = subprocess.Popen(
            command, env=self.environment | {"OPENBLAS_NUM_THREADS": "1"}, cwd=home
        )
        wait_for((home / "socket").exists)
        self.environment |= {warm.SOCKET: str(home / "socket")}

    def forks(self) -> list[int]:
        """The jobs at work."""
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children")
        return [int(x) for x in children.read_text().split()]

    def end(self) -> None:
        self.owner.kill()
        self.owner.wait()
        self.server.wait(20)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = Serving(tmp_path_factory.mktemp("warm") / "home")
    yield made
    made.end()
    assert not made.home.exists()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    home = tmp_path_factory.mktemp("chain")
    torch.save(make_model(), home / "base.model")
    write_structures(home / "data.xyz", teacher_data(12, seed=0))
    return Chain(home).run("split", "e0s")


@pytest.fixture
def training(
    serving: Serving, split: Chain, tmp_path: Path
) -> Callable[[], tuple[subprocess.Popen, int, Path]]:
    """Start a long training; return its `mace-lora`, the fork, and its folder."""

    def start(of: Serving = serving) -> tuple[subprocess.Popen, int, Path]:
        home = tmp_path / "home"
        shutil.copytree(split.home, home)
        own = [*split.steps["train"], "--max_num_epochs", "100000"]
        with (home / "log").open("w") as log:
            process = subprocess.Popen(
                [COMMAND, "train", *own], cwd=home, env=of.environment, stdout=log, stderr=log
            )
        point = home / "out/train/a"
        wait_for(lambda: (point / "metrics.jsonl").is_file() and len(lines_of(point)) > 1)
        (fork,) = of.forks()
        return process, fork, home

    return start


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "code"), [("--help", 0), ("split no.xyz --out o", 2), ("no_step", 2)]
)
def test_words_and_exit_codes(arguments: str, code: int, serving: Serving, tmp_path: Path) -> None:
    off = serving.environment | {warm.SOCKET: warm.OFF}
    found = [
        subprocess.run(
            [COMMAND, *arguments.split()],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        for env in (serving.environment, off)
    ]
    assert [x.returncode for x in found] == [code, code]
    assert found[0].stdout == found[1].stdout and found[0].stderr == found[1].stderr


def test_results_are_those_of_the_command_itself(
    serving: Serving, split: Chain, tmp_path: Path
) -> None:
    files = {}
    for name, env in (("fork", serving.environment), ("own", {warm.SOCKET: warm.OFF})):
        home = tmp_path / name
        shutil.copytree(split.home, home)
        command = [COMMAND, "train", *split.steps["train"]]
        process = subprocess.Popen(command, cwd=home, env=serving.environment | env)
        forks: set[int] = set()
        while process.poll() is None:
            forks.update(serving.forks())
            time.sleep(0.01)
        assert process.returncode == 0 and len(forks) == (name == "fork")
        files[name] = (home / "out/train/a/adapter/adapter.safetensors").read_bytes()
    assert files["fork"] == files["own"]


def test_killed_with_its_command(training: Callable) -> None:
    process, fork, _ = training()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not lives(fork), 5)


def test_a_kill_of_the_job_ends_its_command(training: Callable) -> None:
    process, fork, _ = training()
    os.kill(fork, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def test_signals_arrive(training: Callable, serving: Serving) -> None:
    """Also where all processes get them, as at the end of an allocation."""
    process, _, home = training()
    serving.server.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75
    assert "asked to stop by SIGTERM" in (home / "log").read_text()


def test_the_end_of_the_server_is_the_end_of_its_jobs(training: Callable, tmp_path: Path) -> None:
    other = Serving(tmp_path / "other")
    process, fork, home = training(other)
    other.server.kill()
    assert process.wait(10) == 1
    wait_for(lambda: not lives(fork), 5)
    assert "the process that did this job has ended" in (home / "log").read_text()
    other.owner.kill()
    again = [COMMAND, "--help"]  # nobody answers any more
    subprocess.run(again, env=other.environment, stdout=subprocess.DEVNULL, check=True)


def test_jobs_outlive_the_process_that_is_served(training: Callable, tmp_path: Path) -> None:
    """As they do where snakemake alone is killed; then the server ends."""
    other = Serving(tmp_path / "other")
    process, fork, _ = training(other)
    other.owner.kill()
    other.owner.wait()
    wait_for(lambda: not other.home.exists())
    assert process.poll() is None and lives(fork) and other.server.poll() is None
    process.terminate()
    assert process.wait(20) == 75
    assert other.server.wait(10) == 0


def test_a_changed_library_is_not_run_by_a_fork(serving: Serving, tmp_path: Path) -> None:
    """Nor is another one."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lora", tmp_path / "copy/lora", ignore=ignore)
    made = Serving(tmp_path / "home", tmp_path / "copy")
    command = [COMMAND, "split", "no.xyz", "--out", "o"]

    def said(more: dict[str, str] = {}) -> str:  # noqa: B006
        return subprocess.run(
            command, env=made.environment | more, capture_output=True, text=True, check=False
        ).stderr

    assert said().startswith("mace-lora split: ")
    main = tmp_path / "copy/lora/cli/main.py"
    main.write_text(main.read_text().replace('print(f"mace-lora {step}: ', 'print(f"new {step}: '))
    assert said().startswith("new split: ")
    other = {warm.SOCKET: serving.environment[warm.SOCKET]}
    assert said(other).startswith("new split: ")
    made.end()


@pytest.mark.parametrize(
    ("how", "jobs", "starts"),
    [
        (Start(), 20, True),
        (Start(), 3, False),
        (Start(dry=True), 20, False),
        (Start(main=False), 20, False),
        (Start(locked=True), 20, False),
        (Start(nodes=4), 20, False),
    ],
)
def test_where_there_is_a_server(
    how: Start, jobs: int, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(warm.subprocess, "Popen", lambda *args, **_: begun.append(args))
    monkeypatch.setattr(warm, "GPUS", ("/no/gpu",))
    monkeypatch.delenv(warm.SOCKET)
    warm.start(how, jobs)
    assert bool(begun) is starts is (warm.SOCKET in os.environ)
    if starts:
        shutil.rmtree(Path(os.environ[warm.SOCKET]).parent)
    monkeypatch.setenv(warm.SOCKET, warm.OFF)
    begun.clear()
    warm.start(how, jobs)
    monkeypatch.delenv(warm.SOCKET)
    monkeypatch.setattr(warm, "GPUS", ("/",))
    warm.start(how, jobs)
    assert not begun


@pytest.mark.slow
def test_a_sweep_starts_and_ends_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(warm.SOCKET)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    sweep = Sweep(tmp_path / "sweep")
    (sweep.home / "config/config.yaml").write_text(yaml.safe_dump(sweep.config))
    process = subprocess.Popen(
        ["snakemake", "--until", "e0s", "--cores", "1"],
        cwd=sweep.home,
        env=sweep.environment(()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    homes = []

    def ended() -> bool:
        homes.extend((tmp_path / "t").glob("mace-lora*/socket"))
        return process.poll() is not None

    wait_for(ended, 120)
    assert process.returncode == 0 and homes
    wait_for(lambda: not list((tmp_path / "t").glob("mace-lora*")), 20)
