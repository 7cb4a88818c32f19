"""A look at the labels of the data files, before anything starts.

The names of energy, forces, stress and group stand in the comment line of each frame of an
extended xyz file.  They are read here without ASE, which takes long to import.
"""

import re
from pathlib import Path
from typing import NamedTuple, TextIO

from lora.catalogue.methods import STRESS_LOSSES
from lora.plan.config import Config
from lora.plan.crosscheck import data_files, is_file
from lora.plan.messages import Key, dotted
from lora.plan.words import SHOWN, did_you_mean

SUFFIXES = (".xyz", ".extxyz")
MOST_FRAMES = 1000  # that are passed over in search of one that is no free atom
NOT_LABELS = {"Properties", "Lattice", "pbc", "species", "pos", "Z"}
ITEM = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|[^\s="]+)            # the name
        (?:\s*=\s*(
            "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'   # a quoted value
            | \{[^}]*\} | \[[^\]]*\] | [^\s]*       # a list, or a word
        ))?""",
    re.VERBOSE,
)


class Frame(NamedTuple):
    """The names in one frame of an extended xyz file.

    Attributes:
        number: Its number in the file, counted from 0.
        values: The keys of the comment line with their values.
        columns: The columns of the atoms, with the number of components of each.
    """

    number: int
    values: dict[str, str]
    columns: dict[str, int]


def check_data_keys(config: Config, *, folder: Path = Path()) -> list[str]:
    """Return what is wrong with the names of labels, one line for each.

    Only the first frame of each file that is not a free atom is read; files that are not extended
    xyz are passed over.

    Args:
        config: The config, checked.
        folder: The folder in which paths start.
    """
    losses = {x: config.settings_of(x).get("loss") for x in ("lora", *_trained(config))}
    need = next(
        (
            f"; the loss {y} of methods.{x} (or train) needs it"
            for x, y in losses.items()
            if y in STRESS_LOSSES
        ),
        "",
    )
    lines: list[str] = []
    for key, path in data_files(config).items():
        if key == ("replay", "file") and config.replay.labels != "file":
            continue
        frame = first_frame(folder / path)
        if frame is None:
            continue
        where = f"{path} frame {frame.number}"
        wanted = [("energy_key", [*frame.values])]
        wanted += [("forces_key", [*frame.columns])]
        if need and key[0] in ("data", "split") and "test_sets" not in key:
            wanted += [("stress_key", [*frame.values])]
        for name, present in wanted:
            asked = getattr(config.data, name)
            if asked not in present:
                why = need if name == "stress_key" else ""
                lines.append(_missing(("data", name), asked, where, present) + why)
        by_group = config.split.method == "group" and key == ("data", "file")
        group = config.split.group_key if by_group else None
        if group and group not in frame.values:
            lines.append(_missing(("split", "group_key"), group, where, [*frame.values]))
    return lines


def first_frame(path: Path) -> Frame | None:
    """Return the first frame of a file that is not a free atom; None if there is none to read.

    Args:
        path: The file.
    """
    if path.suffix.lower() not in SUFFIXES or not is_file(path):
        return None
    try:
        with path.open(encoding="utf-8") as handle:
            return _search(handle)
    except (OSError, ValueError):  # the step that reads the file says what is wrong with it
        return None


def parse_comment(line: str) -> dict[str, str]:
    """Return the keys and values of a comment line; a key without a value has the value "T".

    Args:
        line: The comment line.
    """
    found = {}
    for name, value in ITEM.findall(line):
        found[_unquoted(name)] = _unquoted(value) if value else "T"
    return found


def columns_of(properties: str) -> dict[str, int]:
    """Return the columns that `Properties` names, with the number of components of each.

    Args:
        properties: The value, for example "species:S:1:pos:R:3".
    """
    parts = properties.split(":")
    triples = zip(parts[0::3], parts[1::3], parts[2::3], strict=False)
    return {name: int(count) for name, _, count in triples if count.isdecimal()}


def _search(handle: TextIO) -> Frame | None:
    """Return the first frame that is not a free atom, else the first one."""
    first = None
    for number in range(MOST_FRAMES):
        count = handle.readline(40).strip()
        if not count.isdecimal():
            break
        values = parse_comment(handle.readline().rstrip("\r\n"))
        frame = Frame(number, values, columns_of(values.get("Properties", "")))
        if values.get("config_type") != "IsolatedAtom":
            return frame
        first = first or frame
        for _ in range(int(count)):
            handle.readline()
    return first


def _unquoted(text: str) -> str:
    """Return a name or value without the quotation marks around it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _trained(config: Config) -> list[str]:
    """Return the baselines that are trained."""
    return [name for name in config.baselines if name != "foundation"]


def _missing(key: Key, asked: str, where: str, present: list[str]) -> str:
    """Return the line that says that a file does not have a label."""
    names = [name for name in present if name not in NOT_LABELS]
    shown = ", ".join(name[:SHOWN] for name in names[:12]) or "none"
    meant = did_you_mean(asked, names)
    return f"config: {dotted(key)}: {where} has no {asked[:SHOWN]}; it has {shown}{meant}"
