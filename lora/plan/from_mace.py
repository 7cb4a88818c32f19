"""What the options of `mace_run_train` are in the config of a sweep, and their values there."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora.catalogue.elements import SYMBOLS
from lora.catalogue.mace_options import MaceOption
from lora.errors import UserError
from lora.plan.config_data import E0S
from lora.plan.messages import Key, model_at
from lora.plan.options import Option
from lora.plan.settings import OPTIONS
from lora.plan.words import shown

SAME, OTHER_DEFAULT, OTHER_NAME, MISSING = "same", "another default", "another name", "missing"
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
LEVELS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 5, 6: 6}  # of --freeze, as train.freeze_level


class NotHereError(Exception):
    """A value of an option that the config has no counterpart of; the message says what to do."""


def relation(row: MaceOption) -> str:
    """Return in a word what stands for an option here.

    Args:
        row: The option.
    """
    if not row.key:
        return MISSING
    if leaf(row) != row.name:
        return OTHER_NAME
    default = None if row.default is None else converted(row, row.default)
    return SAME if default == default_of(row) else OTHER_DEFAULT


def leaf(row: MaceOption) -> str:
    """Return the last part of the key that stands for an option.

    Args:
        row: The option.
    """
    return row.key.rpartition(".")[2]


def default_of(row: MaceOption) -> Any:
    """Return the default of the key that stands for an option, a list as a list; None for none.

    Args:
        row: An option that has a key here.
    """
    key: Key = tuple(row.key.split("."))
    found = model_at(key[:-1])[key[-1]]
    default = None if found.is_required() else found.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def converted(row: MaceOption, value: Any) -> Any:
    """Return the value of an option as the config has it.

    Args:
        row: An option that has a key here.
        value: Its value, of the row's kind.

    Raises:
        NotHereError: The config has no such value.
        UserError: mace_run_train would not take it, either.
    """
    if row.name in _CONVERTED:
        value = _CONVERTED[row.name](value)
    if row.key in _LISTS:
        return [value]
    option: Option | None = OPTIONS.get(leaf(row)) if row.place.startswith("train.") else None
    if option and value is not None and (problem := option.problem(value)):
        raise NotHereError(f"{shown(value)} {problem}")
    return value


def parsed(row: MaceOption, text: Any, where: str) -> Any:
    """Return the value of an option as mace_run_train reads it.

    Args:
        row: The option.
        text: What the command or the YAML file holds.
        where: What stands before it in messages.

    Raises:
        UserError: It is not a value of this option.
    """
    word = str(text).strip()
    if row.kind == "flag":
        if isinstance(text, bool) or word.lower() in (*TRUE, *FALSE):
            return text if isinstance(text, bool) else word.lower() in TRUE
        raise UserError(f"{where}: takes no value, and {shown(text)} is given; remove it")
    if row.kind == "bool":
        if word.lower() not in (*TRUE, *FALSE):
            raise UserError(f"{where}: {shown(text)} is not True or False")
        return word.lower() in TRUE
    if row.kind in ("int", "float"):
        if row.name == "clip_grad" and (text is None or word == "None"):
            return None
        try:
            number = float(word)
        except ValueError:
            raise UserError(f"{where}: {shown(text)} is not a number") from None
        if row.kind == "int" and not number.is_integer():
            raise UserError(f"{where}: {shown(text)} is not a whole number")
        return int(number) if number.is_integer() else number
    return text if isinstance(text, (dict, list)) else word


def _level(value: int) -> int:
    """Return the level of freezing."""
    if value not in LEVELS:
        raise NotHereError(f"{value} is no level here")
    return LEVELS[value]


def _e0s(value: Any) -> str | dict[str, float]:
    """Return a method of E0s, or the values by symbol."""
    if isinstance(value, str) and value.lower() in E0S:
        return value.lower()
    if isinstance(value, str) and value.endswith(".json"):
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotHereError(f"{value} cannot be read ({error})") from None
    values = _mapping(value, "{atomic number: eV}")
    by_number = dict(enumerate(SYMBOLS, start=1))
    try:
        return {by_number[int(z)]: float(energy) for z, energy in values.items()}
    except (ValueError, KeyError, TypeError):
        raise NotHereError(f"{shown(value)} is not {{atomic number: eV}} of one head") from None


def _weights(value: Any) -> dict[str, float]:
    """Return the weights of config_types that are not 1."""
    weights = _mapping(value, "{config_type: weight}")
    try:
        return {str(name): float(x) for name, x in weights.items() if float(x) != 1}
    except (ValueError, TypeError):
        raise NotHereError(f"{shown(value)} is not {{config_type: weight}}") from None


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    """Return a mapping that an option holds as text."""
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, dict):
        raise NotHereError(f"{shown(value)} is not {what}")
    return found


def _file(value: Any) -> str:
    """Return the name of one file of structures, or of a folder of them in MACE's formats."""
    if isinstance(value, list) or str(value).startswith("["):
        raise NotHereError("several files are given; join them to one (extended xyz can be joined)")
    return str(value)


def _replayed(value: Any) -> str:
    """Return the name of a file for replay."""
    if value in ("mp", "omat", "matpes_pbe", "matpes_r2scan"):
        raise NotHereError(f"{value} is a name of data that MACE downloads; give a file of them")
    return _file(value)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "freeze": _level,
    "E0s": _e0s,
    "config_type_weights": _weights,
    "clip_grad": lambda value: 0.0 if value is None else value,
    "pseudolabel_replay": lambda value: "foundation" if value else "file",
    "pt_train_file": _replayed,
    **dict.fromkeys(("train_file", "valid_file", "test_file"), _file),
}
_LISTS = ("grid.seed", "grid.rank", "grid.alpha", "grid.replay")
