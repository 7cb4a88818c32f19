"""The command: help without torch, one line for a mistake, every step runs by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lora
from lora.cli.main import main
from lora.cli.options import COMMANDS, JOBS, read
from lora.steps.jobs import STEPS
from tests.support.plans import begin, config


@pytest.mark.parametrize("step", COMMANDS)
def test_help(step: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([step, "--help"])
    assert caught.value.code == 0
    assert f"mace-lora {step}" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"mace-lora {lora.__version__}\n"


def test_a_plan_makes_a_command_a_job_of_a_sweep() -> None:
    job = read(["merge", "r/plan.json", "lora_s3_1", "--threads", "2"])
    assert (job.step, job.name, job.threads) == ("merge", "lora_s3_1", 2)
    assert set(STEPS) == set(JOBS)


def test_a_job_that_the_plan_does_not_have_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plan = begin(config(tmp_path)).layout.plan
    capsys.readouterr()
    assert main(["merge", str(plan), "lora_s4_1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mace-lora merge: {plan} has no job merge/lora_s4_1; it has full_s3,")


def test_a_config_is_checked_with_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(config(tmp_path, grid={"rank": 4})))
    assert main(["config", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("config: grid.rank: 4 is not a list; write rank: [4] (")
    path.write_text(yaml.safe_dump(config(tmp_path)))
    assert main(["config", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: no mistakes found\n"
    for name in ("nope.yaml", "data.xyz"):
        assert main(["config", str(tmp_path / name)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


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
    assert (
        capsys.readouterr().err
        == "mace-lora train: rank: 0 must be at least 1 and at most 1000000000\n"
    )
