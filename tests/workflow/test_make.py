"""`make` before it installs anything: which Python it takes, and what it says of another."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.sweep import ROOT


def make(folder: Path, python: str) -> subprocess.CompletedProcess:
    """`make -n` in a clone without an environment, with a Python of some version; "" for none."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "envs").mkdir()
    for name in ("pyproject.toml", "envs/mace-lora.post-deploy.sh"):
        (folder / name).touch()
    if python:
        (folder / "python").write_text(f"#!/bin/sh\necho {python}\n")
        (folder / "python").chmod(0o755)
    command = ["make", "--dry-run", "PYTHON=./python", "sweep"]
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs the tests
    own = {k: v for k, v in os.environ.items() if k not in outer}
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("python", ["2.7", "3.9", "3.10", "3.13", ""])
def test_another_python_is_a_line(tmp_path: Path, python: str) -> None:
    done = make(tmp_path, python)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert f"./python is {f'Python {python}' if python else 'not there'}:" in line
    assert "make PYTHON=python3.11" in line


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_a_python_of_the_lock_is_taken(tmp_path: Path, python: str) -> None:
    done = make(tmp_path, python)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "./python -m venv .venv"


def test_they_are_those_of_the_project() -> None:
    text = (ROOT / "Makefile").read_text()
    (named,) = re.findall(r"^PYTHONS := ([\d. ]+)", text, re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = [int(x.removeprefix("3.")) for x in named.split()]
    assert project["requires-python"] == f">=3.{min(minors)},<3.{max(minors) + 1}"
    assert f"Python {' or '.join(named.split())} is needed" in text
