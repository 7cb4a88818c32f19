"""Read a command of `mace_run_train`, or the YAML file of its --config."""

import shlex
from pathlib import Path
from typing import Any

from lora.catalogue.mace_options import BY_NAME, MaceOption
from lora.errors import UserError
from lora.plan.from_mace import parsed
from lora.plan.reading import read_config
from lora.plan.words import did_you_mean, shown

PROGRAMS = ("mace_run_train", "run_train.py", "mace.cli.run_train", "run_train")
Given = dict[str, Any]  # options by their first name, with their values


def read_command(command: str) -> Given:
    """Return the options that a command gives.

    Args:
        command: The command with all its words, or the name of a YAML file.

    Raises:
        UserError: An option is not known, or a value is not one of its option.
    """
    if command.strip().endswith((".yaml", ".yml")) and "--" not in command:
        return _of_file(command.strip())
    try:
        words = shlex.split(command.replace("\\\n", " "))
    except ValueError as error:
        raise UserError(f"--from: {str(error).lower()}; quote values as in a shell") from None
    for i, word in enumerate(words):
        if word.endswith(PROGRAMS):
            words = words[i + 1 :]
            break
    given = _of_words(words)
    file = given.pop("config", None)
    return (_of_file(file) if file else {}) | given


def _of_words(words: list[str]) -> Given:
    """Return the options of the words of a command."""
    given: Given = {}
    while words:
        word, *words = words
        if not word.startswith("--"):
            raise UserError(
                f"--from: {shown(word)} is no option of mace_run_train; quote values with spaces"
            )
        name, equals, value = word[2:].partition("=")
        row = _row(name)
        if row.kind == "flag":
            if equals:
                raise UserError(f"--{name}: takes no value; write --{name} alone")
            given[row.name] = True
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"--{name}: its value is missing")
            value, *words = words
        given[row.name] = parsed(row, value, f"--{name}")
        while row.kind == "texts" and words and not words[0].startswith("--"):
            words = words[1:]
    return given


def _of_file(name: str) -> Given:
    """Return the options of a YAML file; those that are off or empty are not given."""
    file, given = read_config(Path(name)), {}
    for key, value in file.values.items():
        where = f"{name} line {file.positions.lines.get((key,), 1)}: {key}"
        row = _row(str(key), where)
        if value is not None:
            given[row.name] = parsed(row, value, where)
    return {x: value for x, value in given.items() if BY_NAME[x].kind != "flag" or value}


def _row(name: str, where: str = "") -> MaceOption:
    """Return the row of an option; a beginning that fits one alone is its name, as for argparse."""
    if name in BY_NAME:
        return BY_NAME[name]
    found = {row.name: row for x, row in BY_NAME.items() if name and x.startswith(name)}
    if len(found) == 1 and not where:
        return next(iter(found.values()))
    meant = did_you_mean(name, BY_NAME)
    raise UserError(
        f"{where or f'--{name}'} is no option of mace_run_train{meant or '; see docs/from_mace.md'}"
    )
