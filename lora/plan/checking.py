"""A raw config turned into a `Config`, with all its mistakes at once."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from lora.errors import UserErrors
from lora.plan.config import Config
from lora.plan.crosscheck import cross_check
from lora.plan.messages import MOST, Key, Problem, dotted, in_order, problems_of
from lora.plan.reading import Positions, read_config
from lora.plan.servers import host_of
from lora.plan.upgrade import Raw, old_names, upgrade
from lora.plan.words import shown


class Loaded(NamedTuple):
    """A config file that was read and checked.

    Attributes:
        config: The config.
        warnings: One line for each thing that works for now and should be changed.
    """

    config: Config
    warnings: list[str]


def validate(raw: Raw, *, folder: Path, positions: Positions | None = None) -> Config:
    """Return a checked config.

    Args:
        raw: The config as YAML holds it, with present names (see `upgrade`).
        folder: The folder in which paths start.
        positions: The lines of the keys in their file, for messages.

    Raises:
        UserErrors: One line for each mistake, in the order of the file.
    """
    if not isinstance(raw, dict):
        raise UserErrors(
            [f"config: top level: {shown(raw)} is not a mapping; write keys and values"]
        )
    try:
        return _validate(raw, folder, positions)
    except RecursionError:
        message = "config: top level: lists or mappings are nested too deeply; write plain values"
        raise UserErrors([message]) from None


def _validate(raw: Raw, folder: Path, positions: Positions | None) -> Config:
    """Return a checked config; raise an error with all mistakes."""
    config, problems = _parse(raw)
    bad = {problem.key for problem in problems}
    for _ in range(4):  # without what is wrong, so that the rest is checked, too
        if config is None:
            config, more = _parse(_without(raw, bad))
            bad |= {problem.key[:-1] or problem.key for problem in more}
    if config is not None:
        found = cross_check(config, folder)
        problems += [x for x in found if not any(_touches(k, bad) for k in (x.key, *x.about))]
    if problems or config is None:
        lines = (_line(problem, positions) for problem in in_order(problems[:MOST], raw))
        left = len(problems) - MOST
        last = [f"config: there are {left} more mistakes; correct these first"] if left > 0 else []
        raise UserErrors([*dict.fromkeys(lines), *last])
    return config


def resolve(
    raw: Raw, *, folder: Path, positions: Positions | None = None
) -> tuple[Config, list[str]]:
    """Return a checked config, and a line for each old name in it and for where it sends runs.

    Args:
        raw: The config as YAML holds it.
        folder: The folder in which paths start.
        positions: The lines of the keys in their file, for messages.

    Raises:
        UserErrors: One line for each mistake, in the order of the file.
    """
    warnings: list[str] = []
    if isinstance(raw, dict):
        raw, warnings = upgrade(raw)
    config = validate(raw, folder=folder, positions=positions)
    if host := host_of(config.tracking.uri):  # before anything is sent there
        warnings.append(f"config: tracking.uri: runs and the chosen model are sent to {host}")
    return config, warnings


def load_config(path: Path, *, folder: Path) -> Loaded:
    """Return the config of a file, checked.

    Args:
        path: The YAML file.
        folder: The folder in which paths start: where Snakemake is called.

    Raises:
        UserErrors: The file cannot be read, or holds mistakes: one line for each.
    """
    file = read_config(path)
    config, warnings = resolve(file.values, folder=folder, positions=file.positions)
    return Loaded(config, [*file.warnings, *warnings])


def _parse(raw: Raw) -> tuple[Config | None, list[Problem]]:
    """Return the config, or None and what is wrong with single values."""
    try:
        return Config.model_validate(raw), []
    except ValidationError as error:
        return None, list(problems_of(error))


def _without(raw: Raw, bad: set[Key]) -> Raw:
    """Return a config without some keys; of a list with a bad item, the whole list is left out."""
    pruned: Raw = copy.deepcopy(raw)
    for key in bad:
        section: Any = pruned
        for i, part in enumerate(key):
            inside = section.get(part) if isinstance(section, dict) else None
            if i == len(key) - 1 or not isinstance(inside, dict):
                if isinstance(section, dict):
                    section.pop(part, None)
                break
            section = inside
    return pruned


def _touches(key: Key, bad: set[Key]) -> bool:
    """Return True if a key is one of some others, lies in one, or holds one."""
    return any(key[: len(x)] == x or x[: len(key)] == key for x in bad)


def _line(problem: Problem, positions: Positions | None) -> str:
    """Return the message of a problem, with its place in the file."""
    where = positions.where(problem.key, old_names(problem.key)) if positions else ""
    return f"config: {dotted(problem.key)}: {problem.text}{where}"
