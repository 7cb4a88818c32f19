"""Check every file of a results folder against the seals in it.

    receipt or sealed file  --digest of itself-->  its content
                            --digests of files-->  models, tables, pages beside it

A file counts as damaged where it differs from its digest, and a sealed file also where its seal is
gone.  What was found whole is remembered by size and date, so that the next look is quick.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import digest, read_headed, read_json, read_seal, remedy, write_sealed

PASSING = ("logs", "marks")  # folders that nothing is read from
COPIES = ("track", "artifacts")  # copies, whose seals name files that lie elsewhere
HEADED = "state.pt"  # a file that begins with its own digest

Known = dict[str, list[Any]]  # {file: [size, date, digest, digests of files that it lists]}


@dataclass
class Findings:
    """What a look at a results folder found.

    Attributes:
        sealed: How many files are as they were made.
        damaged: Of each that is not: a line with what to do.
        lost: Files that a seal names and that are not there.
        unknown: Files that no seal names.
    """

    sealed: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)
    lost: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)


def check_all(
    results: str | Path,
    is_loose: Callable[[Path], bool] = lambda _: False,
    known: Known | None = None,
) -> Findings:
    """Check every file of a folder against the seals in it.

    Args:
        results: The folder.
        is_loose: Whether a file needs no seal, because it changes while the sweep lives.
        known: What was found whole before; it is brought up to date.  Without it all is read.
    """
    results = Path(results)
    found, known = Findings(), {} if known is None else known
    named: dict[Path, dict[Path, str]] = {}  # what sealed files say of others, by whom
    whole: dict[Path, list[Any]] = {}
    for path in _files(results):
        try:
            entry = _entry(path, results, known.get(str(path.relative_to(results))))
        except UserError as error:
            found.damaged[path] = str(error)
            continue
        except FileNotFoundError:  # jobs run meanwhile
            continue
        whole[path] = entry
        for name, content in (entry[3] or {}).items():
            named.setdefault(Path(os.path.normpath(path.parent / name)), {})[path] = content
    for path in list(whole):
        wrong = [by for by, content in named.get(path, {}).items() if content != whole[path][2]]
        wrong = [by for by in wrong if not _matches(path, by, results)]
        if wrong:
            del whole[path]
            found.damaged[path] = (
                f"{path} does not match the checksum in {wrong[0]} (damaged or edited). "
                f"{remedy(path)}"
            )
        elif path in named or whole[path][3] is not None:
            found.sealed += 1
        elif not is_loose(path):
            found.unknown.append(path)
    found.lost = sorted(x for x in named if not x.exists())
    known.clear()
    known.update({str(x.relative_to(results)): entry for x, entry in whole.items()})
    return found


def _entry(path: Path, results: Path, known: list[Any] | None = None) -> list[Any]:
    """Return size, date, digest and what it lists of a file; what is known where it is as it was.

    Raises:
        UserError: The file is damaged, or its seal is.
        FileNotFoundError: It has gone.
    """
    state = path.stat()
    if known is not None and known[:2] == [state.st_size, state.st_mtime_ns]:
        return known
    copied = path.relative_to(results).parts[:2] == COPIES
    return [state.st_size, state.st_mtime_ns, digest(path), _listed(path, copied)]


def _matches(path: Path, by: Path, results: Path) -> bool:
    """Read a file and who names it once more: a job may have written both meanwhile."""
    try:
        listed = _entry(by, results)[3] or {}
        return bool(listed.get(os.path.relpath(path, by.parent)) == _entry(path, results)[2])
    except (UserError, FileNotFoundError):
        return False


def _files(results: Path) -> Iterator[Path]:
    """Yield the files of a folder that count, in order."""
    for folder, folders, names in os.walk(results):
        passing = PASSING if Path(folder) == results else ()
        folders[:] = sorted(x for x in folders if x not in passing)
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and not name.endswith(".lock") and not path.is_symlink():
                yield path


def _listed(path: Path, copied: bool = False) -> dict[str, str] | None:
    """Return the digests that a file holds, of others; None for a file that has no seal.

    The seal of a copy says nothing of what lies beside it.

    Raises:
        UserError: The file is damaged, or its seal is.
    """
    if path.name == HEADED:
        try:
            read_headed(path)
        except ValueError:
            raise UserError(f"{path} is damaged. {remedy(path)}") from None
        return {}
    if path.suffix != ".json" or copied:
        return None
    seal = read_seal(path)
    return dict(seal["files"]) if seal else None


def read_known(path: Path) -> Known:
    """Return what was found whole before; {} where that is not known.

    Args:
        path: The file that `write_known` wrote.
    """
    try:
        return dict(read_json(path)["files"])
    except (UserError, OSError, KeyError, TypeError):
        return {}


def write_known(path: Path, known: Known) -> None:
    """Write down what was found whole.

    Args:
        path: The file.
        known: What `check_all` has left there.
    """
    if known:
        write_sealed(path, {"files": known})
