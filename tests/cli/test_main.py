"""The command: help without torch, one line for a mistake, every step runs by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from lora.cli.main import main

STEPS = ["split", "e0s", "train", "truncate", "merge", "evaluate", "track"]
STEPS += ["replay", "check", "export", "status", "ui"]


@pytest.mark.parametrize("step", STEPS)
def test_help(step: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([step, "--help"])
    assert caught.value.code == 0
    assert f"mace-lora {step}" in capsys.readouterr().out


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lora.cli", "split", "no.xyz", "--out", str(tmp_path / "o")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "mace-lora split: no.xyz: no such file\n"


def test_settings_are_checked_before_anything_is_loaded(capsys: pytest.CaptureFixture) -> None:
    args = ["train", "t.xyz", "v.xyz", "--foundation", "f", "--e0s_file", "e", "--out", "o"]
    assert main([*args, "--rank", "0"]) == 2
    assert capsys.readouterr().err == "mace-lora train: rank: 0 must be above 0\n"
