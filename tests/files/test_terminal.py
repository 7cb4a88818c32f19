"""Lines beside the log: when they are due, how wide they are, and who reaches the terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora.files import terminal
from lora.files.terminal import Meter, Often, wrapped
from lora.plan.words import in_lines

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still, and a log in a file of its own."""
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "_same_file", lambda *_: False)
    return now


def test_lines_become_rarer(clock: list[float]) -> None:
    often, said = Often(), []
    for second in range(36_000):
        clock[0] = 1000.0 + second
        if often.due():
            said.append(second)
    assert said[0] == 10 and said[1] == 20
    assert 80 < len(said) < 160 and said[-1] - said[-2] > 1500


def test_a_meter_says_the_time_left(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    meter = Meter("checks of a, b")
    meter.at("forgetting", 0, 9, "checks")
    clock[0] += 4
    meter.at("nve", 0, 500, "steps")
    assert capsys.readouterr().out == ""
    clock[0] += 20
    meter.at("nve", 100, 500, "steps")
    clock[0] += 2
    meter.at("nve", 105, 500, "steps")
    line = "checks of a, b  nve  100 of 500 steps  80 s left\n"
    assert capsys.readouterr().out == line


def test_texts_keep_the_width_and_tables_stay() -> None:
    words = "word " * 60 + "x" * 120
    lines = wrapped(words).splitlines()
    assert " ".join(lines).split() == words.split()
    assert max(map(len, lines[:-1])) <= terminal.WIDTH and lines[1].startswith("  ")
    table = "a  b" * 40
    assert in_lines(f"{table}\n\n{words}") == f"{table}\n\n{wrapped(words)}"


def test_libraries_print_into_the_log_and_we_on_the_terminal(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from lora.files.terminal import libraries_in_the_log, say\n"
        "print('before')\n"
        "with libraries_in_the_log():\n"
        "    os.write(1, b'a banner in C\\n'); print('a word'); say('compared')\n"
        "    if not os.fork(): say('by a child'); os._exit(0)\n"
        "    os.wait()\n"
        "print('after')\n"
    )
    log, out = tmp_path / "log", tmp_path / "out"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as err, out.open("w") as stdout:
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, stdout=stdout, stderr=err, env=env)
    assert out.read_text().splitlines() == ["before", "compared", "by a child", "after"]
    assert log.read_text().splitlines() == ["a banner in C", "a word"]
