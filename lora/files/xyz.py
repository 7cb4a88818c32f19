"""The frames of an extended xyz file, line by line: never fewer than the file holds.

ASE reads the numbers; what stands here finds where frames begin, without ASE, which takes long to
import, and stops at the first empty line between two frames.
"""

import bz2
import gzip
import lzma
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO, cast

from lora.errors import UserError

SUFFIXES = (".xyz", ".extxyz")
OPENERS: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PLAIN = 4  # columns of a frame whose comment line does not name them: symbol and position
SHOWN = 40  # characters of a line in a message
ITEM = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|[^\s="]+)            # the name
        (?:\s*=\s*(
            "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*'   # a quoted value
            | \{[^}]*\} | \[[^\]]*\] | [^\s]*       # a list, or a word
        ))?""",
    re.VERBOSE,
)


class Frame(NamedTuple):
    """One frame as it stands in the file.

    Attributes:
        number: Its number in the file, counted from 0.
        line: The number of its first line, counted from 1.
        lines: Its lines: number of atoms, comment, atoms.
        gap: True where empty lines stand before it.
    """

    number: int
    line: int
    lines: list[str]
    gap: bool

    @property
    def n_atoms(self) -> int:
        """Return the number of atoms."""
        return int(self.lines[0])

    @property
    def values(self) -> dict[str, str]:
        """Return the keys of the comment line with their values."""
        return parse_comment(self.lines[1].rstrip("\r\n"))

    @property
    def columns(self) -> dict[str, int]:
        """Return the columns of the atoms, with the number of components of each."""
        return columns_of(self.values.get("Properties", ""))

    @property
    def unnamed(self) -> int:
        """Return the number of columns after the positions where `Properties` is missing."""
        if "Properties" in self.lines[1] or len(self.lines) < 3:
            return 0
        return max(0, len(self.lines[2].split()) - PLAIN)


def is_xyz(path: Path) -> bool:
    """Return True if the name of a file says that it is extended xyz, packed or not.

    Args:
        path: The file.
    """
    return any(suffix.lower() in SUFFIXES for suffix in path.suffixes)


def scan(path: Path) -> Iterator[Frame]:
    """Yield every frame of a file; empty lines between frames are passed over.

    Args:
        path: The file.

    Raises:
        UserError: A line is not what it has to be, with its number.
        OSError: The file cannot be read.
    """
    opener = OPENERS.get(path.suffix.lower(), open)
    with cast(TextIO, opener(path, "rt", encoding="utf-8")) as handle:
        try:
            yield from _frames(path, handle)
        except (UnicodeDecodeError, EOFError) as error:
            raise UserError(f"{path}: cannot be read as extended xyz ({error})") from None


def _frames(path: Path, handle: TextIO) -> Iterator[Frame]:
    """Yield the frames of an open file."""
    lines = enumerate(handle, start=1)
    number, gap, frame = 0, False, None
    for at, text in lines:
        if not text.strip():
            gap = True
            continue
        if frame and text.lstrip().startswith("VEC"):  # the cell, as ADF writes it
            frame.lines.append(text)
            continue
        if frame:
            yield frame
        count = text.strip()
        if not (count.isascii() and count.isdecimal()):
            said = repr(count[:SHOWN])
            before = (
                f"; frame {number - 1} above has more or fewer atoms than it says" if frame else ""
            )
            raise _bad(path, at, f"{said} stands where frame {number} names its atoms{before}")
        frame = Frame(number, at, [text, *_rest(path, lines, number, at, int(count))], gap)
        number, gap = number + 1, False
    if frame:
        yield frame


def _rest(
    path: Path, lines: Iterator[tuple[int, str]], number: int, at: int, n_atoms: int
) -> Iterator[str]:
    """Yield comment line and atoms of a frame that begins at a line."""
    for k in range(1 + n_atoms):
        line, text = next(lines, (0, ""))
        if not line:
            what = f"the file ends after {max(k - 1, 0)}"
            raise _bad(path, at, f"frame {number} names {n_atoms} atoms, but {what}")
        if k and not text.strip():
            what = f"line {line} is empty after {k - 1}"
            raise _bad(path, at, f"frame {number} names {n_atoms} atoms, but {what}")
        yield text


def _bad(path: Path, line: int, why: str) -> UserError:
    """Return the error of a line."""
    return UserError(
        f"{path} line {line}: cannot be read as extended xyz ({why}); correct the file"
    )


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


def _unquoted(text: str) -> str:
    """Return a name or value without the quotation marks around it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
