"""What a person types: names that are nearly right, values of a wrong type, the Tab key, help."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora.cli.main import main
from lora.cli.options import COMMANDS, parser

PATHS = ["--foundation", "f", "--out", "o"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "mace-lora trian: there is no command trian; did you mean train"),
        ([], "mace-lora: give a command; the commands are init, config"),
        (["probe"], "mace-lora probe: it is a job of a sweep: mace-lora probe results/plan.json"),
        (["split", "--valid-fractoin", "1"], "--valid-fractoin; did you mean --valid_fraction?"),
        (["split", "d.xyz", "--out", "o", "--seed", "x"], "split: --seed: invalid int value: 'x'"),
        (["e0s", "t.xyz", *PATHS, "--threads", "two"], "e0s: --threads: invalid int value: 'two'"),
        (["split"], "split: the following arguments are required: dataset, --out"),
        (["completion", "fish"], "completion: shell: invalid choice: 'fish'"),
        (["status", "nowhere"], "mace-lora status: nowhere/plan.json is missing"),
        (["verify", "nowhere"], "mace-lora verify: nowhere/plan.json is missing"),
        (["ui", "nowhere"], "mace-lora ui: nowhere/track/runs.json is missing"),
    ],
)
def test_a_slip_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_beginning_of_an_option_and_values_with_dashes_are_taken() -> None:
    from lora.cli.options import read

    assert read(["split", "d.xyz", "--out", "o", "--valid_fra", "0.2"]).valid_fraction == 0.2
    assert read(["init", "--from", "mace_run_train --name=x --nope"]).command.endswith("--nope")
    assert read(["config", "--", "--strange.yaml"]).file == Path("--strange.yaml")


@pytest.mark.parametrize("step", COMMANDS)
def test_help_says_real_defaults(step: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([step, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "None" not in text and not re.search(r"\(default ?\)", text)


def completed(shell: str, *words: str, home: Path) -> list[str]:
    """Return what a bash offers after some words, the last of which is to be completed."""
    (home / "mace-lora").write_text(f'#!/bin/sh\nexec {sys.executable} -m lora.cli "$@"\n')
    (home / "mace-lora").chmod(0o755)
    (home / "my_data.xyz").touch()
    script = (
        f'eval "$(mace-lora completion {shell})"; '
        "function=$(complete -p mace-lora | "
        "sed 's/.*-F \\([^ ]*\\).*/\\1/'); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
        '$function; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"PATH": f"{home}:{os.environ['PATH']}"}
    env["PYTHONPATH"] = f"{root}:{os.environ.get('PYTHONPATH', '')}"
    command = ["bash", "-c", script, "bash", "mace-lora", *words]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_choices_and_files(tmp_path: Path) -> None:
    assert completed("bash", "", home=tmp_path) == list(COMMANDS)
    assert completed("bash", "tr", home=tmp_path) == ["train", "truncate", "track"]
    found = completed("bash", "split", "--valid", home=tmp_path)
    assert found == ["--valid_file", "--valid_fraction"]
    assert completed("bash", "train", "--optimizer", "", home=tmp_path) == ["adam", "adamw"]
    assert completed("bash", "split", "my_", home=tmp_path) == ["my_data.xyz"]


def test_zsh_is_told_the_same(capsys: pytest.CaptureFixture) -> None:
    assert main(["completion", "zsh"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#compdef mace-lora") and all(f"\n    {x}:'" in text for x in COMMANDS)
    if zsh := shutil.which("zsh"):
        subprocess.run([zsh, "-n"], input=text, text=True, check=True)


def test_the_parser_of_all_is_the_one_of_each() -> None:
    assert parser().prog == "mace-lora"
