"""`make` before it installs anything: which Python it takes, and what it says of another."""

import os
import re
import shutil
import subprocess
import sys
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
    return subprocess.run(
        command, cwd=folder, env=own(), capture_output=True, text=True, check=False
    )


def own() -> dict[str, str]:
    """The environment without what comes from the make that runs the tests."""
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    return {k: v for k, v in os.environ.items() if k not in outer}


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


def test_an_installation_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """pip takes a package that it wrote the half of for a whole one."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    script = tmp_path / "envs" / "mace-lora.post-deploy.sh"
    script.parent.mkdir()
    command = ["make", f"PYTHON={sys.executable}", ".venv/ready"]

    def run(says: str) -> subprocess.CompletedProcess:
        script.write_text(f"ls .venv\n{says}\n")
        return subprocess.run(
            command, cwd=tmp_path, env=own(), capture_output=True, text=True, check=False
        )

    assert run("touch .venv/half; kill -9 $$").returncode != 0
    again = run("touch .venv/whole")
    assert again.returncode == 0 and "half\n" not in again.stdout
    assert (tmp_path / ".venv" / "ready").exists() and not (tmp_path / ".venv" / "half").exists()
    os.utime(tmp_path / "pyproject.toml", (2e9, 2e9))  # a newer lock changes what is there
    assert run("touch .venv/more").returncode == 0
    assert (tmp_path / ".venv" / "whole").exists() and (tmp_path / ".venv" / "more").exists()
