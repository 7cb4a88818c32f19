"""Write and read the files that steps leave behind.

All are written whole or not at all.  JSON is sealed: it holds the format in which it was written,
and the digests of itself and of the files beside it, so that the step that reads it notices a file
that was cut short, damaged or edited.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lora.errors import UserError

CHUNK = 1 << 16  # bytes that are read at a time: little, as where memory ran out too
FORMAT = 1  # of sealed files; raised when an older version could not read them
SEAL = {"format", "digest", "files"}  # what a seal holds, and that of a receipt
STAMPED = SEAL | {"stamp", "stamp_digest"}
# JSON files that hold the digests of files beside them
SEALED = (
    *("foundation.json", "split.json", "replay.json", "train.json", "merge.json"),
    *("keep.json", "adapter.json", "card.json", "trust.json"),
)
# functions that know which receipt belongs to a file; `lora.plan.layout` adds its own, because
# this room lies below the plan and knows no results folder
RECEIPT_FINDERS: list[Callable[[Path], Path | None]] = []


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; its folder is made.
        content: All that it will hold.

    Raises:
        OSError: The file cannot be written; the error names it, and no half of it is left.
    """
    with whole(path) as handle:
        handle.write(content)


@contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to be written whole or not at all: beside it, synced, renamed.

    Args:
        path: The file; its folder is made.

    Raises:
        OSError: The file cannot be written; the error names it, and no half of it is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    except OSError as error:  # a full disk: say which file, and leave no half of it there
        beside.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all.

    Args:
        path: The file; its folder is made.
        text: All that it will hold.
    """
    write_bytes(path, text.encode())


@dataclass(frozen=True)
class Receipt:
    """The JSON file in which a step says what it has made, and from what.

    Attributes:
        path: The file.
        stamp: What the job depends on (`lora.plan.freshness`); None for a step run by hand.
    """

    path: Path
    stamp: dict[str, Any] | None = None

    def write(self, content: dict[str, Any], files: Iterable[Path] = ()) -> None:
        """Write the receipt, sealed.

        Args:
            content: What the step has found.
            files: Files beside the receipt, whose digests it holds.
        """
        write_sealed(self.path, content, files, self.stamp)

    def write_points(self, results: list[dict[str, Any]]) -> None:
        """Write what a step found of each point, once the files of all points are there.

        Args:
            results: A result for each point; its key "point" holds the name.
        """
        self.write({result["point"]: result for result in results})


def write_torch(path: str | Path, content: Any, head: bool = False) -> None:
    """Write what torch can pickle, whole or not at all.

    It goes through memory, because torch's own writer reports a full disk as another error.

    Args:
        path: The file.
        content: What torch can pickle.
        head: Put the SHA-256 digest of the pickle, 32 bytes, in front of it (`read_headed`).
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()
    write_bytes(path, hashlib.sha256(written).digest() + written if head else written)


def read_headed(path: str | Path) -> io.BytesIO:
    """Return the pickle that `write_torch` wrote with a head.

    Args:
        path: The file.

    Raises:
        ValueError: The file does not hold what was written.
    """
    content = Path(path).read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError("damaged")
    return io.BytesIO(content[32:])


def write_sealed(
    path: str | Path,
    content: dict[str, Any],
    files: Iterable[Path] = (),
    stamp: dict[str, Any] | None = None,
) -> None:
    """Write JSON with its format, its own digest and those of files beside it.

    Args:
        path: The JSON file.
        content: What it holds; its key "seal" is added.
        files: The files; they are known by their paths from the folder of the JSON file.
        stamp: Of a receipt, what it was made from.  It has a digest of its own, so that the
            digest of the content is the same where the same was made.
    """
    path = Path(path)
    sums = {os.path.relpath(file, path.parent): digest(file) for file in files}
    seal: dict[str, Any] = {"format": FORMAT, "digest": _digest_of(content, sums), "files": sums}
    if stamp is not None:
        seal |= {"stamp": stamp, "stamp_digest": _digest_of(stamp, {})}
    write_text(path, json.dumps({"seal": seal, **content}, indent=2) + "\n")


def count_up(path: str | Path, **facts: Any) -> None:
    """Write facts and how often they were written.

    The plan takes the number for a setting of a job, so that the next start of the sweep repeats
    what failed or was missed.

    Args:
        path: The JSON file.
        **facts: What else it holds.
    """
    write_sealed(path, {"times": times_of(path) + 1, **facts})


def times_of(path: str | Path) -> int:
    """Return how often `count_up` has written a file.

    Args:
        path: The JSON file.
    """
    return int(read_json(path)["times"]) if Path(path).is_file() else 0


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; of a sealed one without its seal.

    Args:
        path: The file.

    Raises:
        UserError: The file is missing, is not JSON, has a newer format, or was damaged or edited.
    """
    return _read(Path(path))[0]


def read_seal(path: str | Path) -> dict[str, Any]:
    """Return the seal of a sealed file: format, digest, files and, of a receipt, its stamp.

    Args:
        path: The file.

    Raises:
        UserError: As `read_json`.
    """
    return _read(Path(path))[1]


def check_file(path: str | Path) -> None:
    """Check a file against the digests that a sealed file beside it holds.

    Args:
        path: The file; without a sealed file beside it nothing is checked.

    Raises:
        UserError: The file was damaged or edited.
    """
    path = Path(path)
    own = [path.with_suffix(".json").name] if path.suffix == ".parquet" else []
    for name in (*SEALED, *own):
        if (path.parent / name).is_file():
            sums = read_seal(path.parent / name).get("files", {})
            if path.is_file() and sums.get(path.name, found := digest(path)) != found:
                raise UserError(
                    f"{path} does not match the checksum in {name} (damaged or edited). "
                    f"{remedy(path)}"
                )


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the content of a JSON file, and its seal; {} where it has none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:  # also where it is not UTF-8
        raise UserError(f"{path} is not JSON ({error}). {remedy(path)}") from None
    seal = content.pop("seal", None) if isinstance(content, dict) else None
    if not isinstance(seal, dict):
        if _was_sealed(content):
            raise UserError(f"{path}: its seal is damaged. {remedy(path)}")
        return content, {}  # not written by this project
    if seal.get("format", 0) > FORMAT:
        raise UserError(
            f"{path} has format {seal['format']}, and this version reads formats up to {FORMAT}. "
            "Use the version of mace-lora-sweep that wrote it."
        )
    if set(seal) not in (SEAL, STAMPED):
        raise UserError(f"{path}: its seal is damaged. {remedy(path)}")
    whole = seal["digest"] == _digest_of(content, seal["files"])
    if "stamp" in seal:
        whole = whole and seal["stamp_digest"] == _digest_of(seal["stamp"], {})
    if not whole:
        raise UserError(
            f"{path} does not match its own checksum (damaged or edited). {remedy(path)}"
        )
    return content, seal


def _was_sealed(content: Any) -> bool:
    """Return True where something is a seal in all but its name, which a flipped bit can change."""
    values = content.values() if isinstance(content, dict) else ()
    return any(isinstance(x, dict) and len(SEAL & {*x}) > 1 for x in values)


def _digest_of(content: dict[str, Any], sums: dict[str, str]) -> str:
    text = json.dumps([content, sums], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remedy(path: Path) -> str:
    """Explain how to regenerate a file: delete it and its receipt, then run snakemake.

    Args:
        path: The file.
    """
    found = [receipt for find in RECEIPT_FINDERS if (receipt := find(path)) is not None]
    if not found:
        return "Delete it and make it again, or copy it again from where it came."
    both = path if found[0] == path else f"{path} and {found[0]}"
    return f"Delete {both}, then run snakemake again."


def sha256(path: str | Path) -> str:
    """Return the SHA-256 digest of a file, as `sha256sum` prints it.

    Args:
        path: The file.
    """
    total = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while part := handle.read(CHUNK):
            total.update(part)
    return total.hexdigest()


def digest(*paths: str | Path) -> str:
    """Return a digest of the contents of files: 16 hex digits of SHA-256.

    Args:
        *paths: The files; their order counts, their names do not.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(bytes.fromhex(sha256(path)))
    return total.hexdigest()[:16]
