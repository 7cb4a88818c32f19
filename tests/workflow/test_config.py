"""Configs through snakemake itself: how one is given, and that mistakes are lines before any job.

What is said of each mistake is in tests/plan/test_config.py, without snakemake.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import forkserver
from tests.support.sweep import ROOT, dry_run


def refused(done: subprocess.CompletedProcess, folder: Path) -> list[str]:
    """The lines of a snakemake that refused to run, and left nothing."""
    assert done.returncode != 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not (folder / "results").exists()
    return [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("config: ")]


def quickstart() -> dict:
    config: dict = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return config


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"ranks": [4]}, "config: ranks: is not a key of the config"),
        (
            {"checks": {"holdout_file": "no.xyz"}},
            "config: checks.holdout_file: 'no.xyz' is not a f",
        ),
    ],
    ids=["unknown_key", "missing_file"],
)
def test_a_mistake_is_a_line(tmp_path: Path, overlay: dict, message: str) -> None:
    (line,) = refused(dry_run(quickstart() | overlay, tmp_path), tmp_path)
    assert line.startswith(message)


def test_several_mistakes_are_said_at_once(tmp_path: Path) -> None:
    wrong = {"grid": {"rank": [0]}, "split": {"method": "kfold"}, "rank_curve": 3}
    lines = refused(dry_run(quickstart() | wrong, tmp_path), tmp_path)
    keys = [line.split(": ")[1] for line in lines]
    assert keys == ["grid.rank.0", "rank_curve", "split.method"]  # as in the file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no\.yaml"),
        ("grid: [", "Config file is not valid"),
        ("- a list", r"no\.yaml|not a mapping|Config file"),
    ],
    ids=["none", "no_yaml", "a_list"],
)
def test_a_wrong_configfile_is_said(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "no.yaml"
    if content:
        path.write_text(content)
    done = snakemake("--configfile", str(path))
    assert done.returncode != 0 and re.search(message, done.stdout + done.stderr)


def test_config_changes_the_quickstart(tmp_path: Path) -> None:
    """--config alone changes config/config.yaml; a wrong value of it is a line."""
    results = f"results={tmp_path}/results"
    done = snakemake("--config", results, "on_upgrade=keep")
    assert done.returncode == 0 and "plan: 10 of 10 points" in done.stderr, done.stderr
    (line,) = refused(snakemake("--config", results, "on_upgrade=perhaps"), tmp_path)
    assert line.startswith("config: on_upgrade: 'perhaps' is not one of")


def snakemake(*arguments: str) -> subprocess.CompletedProcess:
    """`snakemake -n` in this clone."""
    env = os.environ | forkserver.environment()
    command = ["snakemake", "--dry-run", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
