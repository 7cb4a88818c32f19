"""What people do at the same time: two reports, and a look at MLflow while it is filled."""

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest

from lora.files.sealed import read_json
from lora.plan.layout import Layout
from tests.support.store import all_of
from tests.support.sweep import CORES, Sweep, ran

pytestmark = [pytest.mark.slow, pytest.mark.long(only=True)]  # a sweep of its own


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return ran(tmp_path_factory.mktemp("at once"))


def started(sweep: Sweep, *args: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["snakemake", *CORES, *args],
        cwd=sweep.home,
        env=sweep.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_reports(sweep: Sweep, told: Callable) -> None:
    both = [started(sweep, "--report", name) for name in ("a.html", "b.html")]
    for one in both:
        said, _ = one.communicate(timeout=600)
        assert one.returncode == 0, said[-2000:]
    first, second = ((sweep.home / name).read_text() for name in ("a.html", "b.html"))
    assert len(first) > 100_000 and abs(len(first) / len(second) - 1) < 0.01
    told("two reports at once", 2, "not needed", "both whole")


def test_mlflow_is_looked_at_while_it_is_filled(sweep: Sweep, told: Callable) -> None:
    """The page answers all the time, and the store has every run once."""
    layout = Layout(sweep.home / "out")
    command = [sys.executable, "-m", "lora.cli", "ui", str(layout.results), "--no_browser"]
    env = sweep.environment()
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=sweep.home)
    try:
        page = ""
        while not page and (line := ui.stdout.readline()):
            page = "".join(re.findall(r"http://127.0.0.1:\d+", line))
        times, asked = 10, 0
        for _ in range(times):
            filling = started(sweep, "--forcerun", "track")
            while filling.poll() is None:
                with urllib.request.urlopen(f"{page}/health", timeout=60) as answer:
                    asked += answer.status == 200
                time.sleep(0.05)
            assert filling.returncode == 0, filling.stdout.read()[-2000:]
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(30)
    found = read_json(layout.receipt("track"))
    runs = all_of(f"sqlite:///{layout.database}", found["experiment"])
    assert {name: one["ids"] for name, one in runs.items()} == {
        name: [run] for name, run in found["runs"].items()
    }
    assert asked > times
    told("MLflow's UI open while it is filled", times, f"{asked} answers", "each run once")
