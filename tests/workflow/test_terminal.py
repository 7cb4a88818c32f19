"""What a start of snakemake prints: a line a step, errors with their log, nothing else."""

import logging
import os
import re
import subprocess
from pathlib import Path

import pytest

from lora.files.terminal import WIDTH
from tests.support import forkserver
from tests.support.sweep import ROOT

WORKFLOW = """
rule all:
    input:
        expand("{x}.txt", x=["one", "two"]),

rule make:
    input:
        "a_file_with_a_rather_long_name_that_nobody_wants_to_read.data",
    output:
        "{x}.txt",
    log:
        "{x}.log",
    shell:
        "for i in $(seq 30); do echo line $i; done > {log}; "
        "test {wildcards.x} != bad && touch {output}"
"""


def snakemake(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the little workflow."""
    (home / "Snakefile").write_text(WORKFLOW)
    (home / "a_file_with_a_rather_long_name_that_nobody_wants_to_read.data").touch()
    command = ["snakemake", "--logger", "mace-lora", "--cores", "1", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | forkserver.environment()
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)


def test_a_step_is_a_line(tmp_path: Path) -> None:
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stderr
    first, *steps, log, elapsed = [x for x in done.stderr.splitlines() if x]
    assert first == "3 jobs: 2 make, all" and not done.stdout
    found = [re.fullmatch(r"(\d) of 3  (\w+)  +(one  |two  )?\d+ s(, .*left)?", x) for x in steps]
    assert all(found) and [x[1] for x in found if x] == ["1", "2", "3"]
    assert [x[2] for x in found if x] == ["make", "make", "all"]
    assert log.startswith("Complete log") and elapsed.startswith("Elapsed time")
    (kept,) = (tmp_path / ".snakemake/log").glob("*.log")
    assert "input: a_file_with" in kept.read_text()  # in the file is all that snakemake says


def test_a_command_is_printed_where_that_is_asked(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--printshellcmds", "one.txt")
    assert "test one != bad && touch one.txt" in done.stderr
    assert "touch one.txt" not in snakemake(tmp_path, "--forceall", "one.txt").stderr


def test_an_error_has_its_log_and_the_end_of_it(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--show-failed-logs", "bad.txt")
    assert done.returncode == 1
    for words in ("Error in rule make", "log: bad.log", "bad.log, the last 20 of 30 lines:"):
        assert words in done.stderr
    shown = [int(x) for x in re.findall(r"^ +line (\d+)$", done.stderr, re.M)]
    assert shown == list(range(11, 31))
    assert "touch bad.txt" in done.stderr and "a_file_with" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dry-run"], "reason: Missing output files: one.txt"),
        (["--dag"], "digraph snakemake_dag"),
        (["--summary"], "output_file"),
    ],
)
def test_other_modes_say_what_snakemake_says(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = snakemake(tmp_path, *arguments)
    assert done.returncode == 0 and said in done.stdout, done.stderr


def test_an_error_of_a_group_has_the_log_of_the_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what has gone wrong in a line does not end the lines."""
    monkeypatch.setattr(logging, "raiseExceptions", True)  # libraries of other tests turn it off
    from snakemake.settings.types import OutputSettings
    from snakemake_interface_logger_plugins.common import LogEvent

    from snakemake_logger_plugin_mace_lora import LogHandler

    (tmp_path / "slurm.log").write_text("out of memory\n")
    handler = LogHandler(OutputSettings(show_failed_logs=True), None)
    job = {"rule_name": "merge", "jobid": 3, "output": ["a.json"], "log": ["logs/merge.log"]}
    own = {"event": LogEvent.GROUP_ERROR, "groupid": "judge", "job_error_info": [job]}
    own |= {"msg": "Error in group judge", "aux_logs": [str(tmp_path / "slurm.log")]}
    handler.emit(logging.makeLogRecord(own | {"levelno": logging.ERROR, "levelname": "ERROR"}))
    handler.emit(logging.makeLogRecord({"event": LogEvent.JOB_FINISHED}))  # without its number
    handler.emit(logging.makeLogRecord({"msg": "goes on", "levelno": logging.INFO}))
    said = capsys.readouterr().err
    for words in ("rule merge", "logs/merge.log", "slurm.log:\n    out of memory"):
        assert words in said
    assert "AttributeError" in said and said.endswith("goes on\n")


def test_quiet_is_quiet(tmp_path: Path) -> None:
    assert snakemake(tmp_path, "--quiet", "all").stderr == ""
    printed = snakemake(tmp_path, "--forceall", "--quiet", "progress").stderr
    assert "of 3" not in printed and "Complete log" in printed


def test_lines_keep_the_width() -> None:
    from snakemake_logger_plugin_mace_lora import words

    assert words.WIDTH == WIDTH
    one = words.Ended("thorough", 7, 1234, 5000.0, 7e4, ("x" * 200,))
    line = words.step_line(one)
    assert len(line) == WIDTH and line.endswith("...  83 min, about 19 hours left")
    stats = {f"rule{i}": i for i in range(60)}
    assert max(map(len, words.jobs_line(stats | {"total": 9}).splitlines())) <= WIDTH


def test_the_time_left_is_that_of_the_rules() -> None:
    """Two trainings of 100 s side by side are known; two more and their merges are to come."""
    from snakemake_logger_plugin_mace_lora.pace import Pace

    pace = Pace()
    pace.expects({"split": 1, "e0s": 1, "train": 4, "merge": 4, "total": 10})
    pace.begins(1, "split", 1000.0)
    pace.ends(1, 1007.0)
    pace.begins(0, "e0s", 1007.0)
    pace.ends(0, 1010.0)
    assert pace.left() is None  # nothing is known of trainings
    for job in (2, 3):
        pace.begins(job, "train", 1010.0)
    for job in (2, 3):
        pace.ends(job, 1110.0)
    at_once = 210 / 110
    assert pace.left() == pytest.approx((2 * 100 + 4 * 7) / at_once)  # the median of 3, 7, 100
    pace.begins(4, "merge", 1110.0)
    pace.ends(4, 1115.0)
    assert pace.left() == pytest.approx((2 * 100 + 3 * 5) / (215 / 115))
