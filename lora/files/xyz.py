"""The frames of an extended xyz file, line by line: never fewer than the file holds.

ASE reads the numbers; what stands here finds where frames begin, without ASE, which takes long to
import, and stops at the first empty line between two frames.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO, cast

from lora.errors import UserError
from lora.files.comment import (
    SHOWN,
    columns_of,
    kinds_of,
    parse_comment,
    wrong_in,
    wrong_in_atom,
)
from lora.files.stored import HDF5, LMDB

SUFFIXES = (".xyz", ".extxyz")
OTHERS = (*HDF5, *LMDB, ".traj", ".db")  # of other formats, as in train.xyz.h5
OPENERS: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PLAIN = 4  # columns of a frame whose comment line does not name them: symbol and position
LONGEST = 1_000_000  # characters of a line; a packed file of a few kB can hold a longer one
MOST_DIGITS = 9  # of a number of atoms


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
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return not {*suffixes[-1:]} & {*OTHERS} and bool({*suffixes} & {*SUFFIXES})


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
            for frame in _frames(path, handle):
                _check(path, frame)
                yield frame
        except (UnicodeDecodeError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            if getattr(error, "errno", None):  # of the disk; a file packed wrongly has no number
                raise
            raise UserError(f"{path}: cannot be read as extended xyz ({error})") from None


def _frames(path: Path, handle: TextIO) -> Iterator[Frame]:
    """Yield the frames of an open file."""
    lines = enumerate(_lines(path, handle), start=1)
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
        if not (count.isascii() and count.isdecimal() and len(count) <= MOST_DIGITS):
            said = repr(count[:SHOWN])
            before = (
                f"; frame {number - 1} above has more or fewer atoms than it says" if frame else ""
            )
            raise _bad(path, at, f"{said} stands where frame {number} names its atoms{before}")
        frame = Frame(number, at, [text, *_rest(path, lines, number, at, int(count))], gap)
        number, gap = number + 1, False
    if frame:
        yield frame


def _lines(path: Path, handle: TextIO) -> Iterator[str]:
    """Yield the lines of an open file."""
    for number, text in enumerate(iter(partial(handle.readline, LONGEST), ""), start=1):
        if len(text) == LONGEST:
            raise _bad(path, number, f"the line has more than {LONGEST} characters")
        yield text


def _check(path: Path, frame: Frame) -> None:
    """Raise UserError for what ASE would read as something else, or as nothing."""
    comment = frame.lines[1].rstrip("\r\n")
    if why := wrong_in(comment):
        raise _bad(path, frame.line + 1, f"frame {frame.number}: {why}")
    properties = parse_comment(comment).get("Properties") if "Properties" in comment else None
    try:
        kinds = kinds_of(properties) if properties else ""
    except ValueError as error:
        raise _bad(path, frame.line + 1, f"frame {frame.number}: {error}") from None
    for i, text in enumerate(frame.lines[2 : 2 + frame.n_atoms]):
        if why := wrong_in_atom(text, kinds):
            raise _bad(path, frame.line + 2 + i, f"frame {frame.number}: {why}")


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
