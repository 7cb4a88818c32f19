"""Small helpers for the files that steps leave behind.

All are written whole or not at all.  JSON is sealed: it says in which format it was written, and
the digests of itself and of the files beside it, so that one that was cut short, damaged or edited
is noticed by the step that reads it.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.errors import UserError

FORMAT = 1  # of sealed files; raised when an older version could not read them
SEALED = ("split.json", "replay.json", "train.json", "merge.json", "adapter.json", "card.json")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it, synced, renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    except OSError as error:  # a full disk: say which file, and leave no half of it there
        beside.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


@dataclass(frozen=True)
class Receipt:
    """Where a step says what it has made, and from what.

    stamp: what the job depends on (`lora.plan.freshness`); None for a step that is run by hand
    """

    path: Path
    stamp: dict[str, Any] | None = None

    def write(self, content: dict[str, Any], files: Iterable[Path] = ()) -> None:
        """Write it, sealed, with the digests of files beside it."""
        write_sealed(self.path, content, files, self.stamp)

    def write_points(self, results: list[dict[str, Any]]) -> None:
        """Write what a step found of each point, {point: result}, once all its files are there."""
        self.write({result["point"]: result for result in results})


def write_torch(path: str | Path, content: Any, head: bool = False) -> None:
    """Write what torch can pickle, whole or not at all; with its digest as a head, if asked for.

    Through memory, because torch's own writer reports a full disk as something else.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    written = buffer.getvalue()
    write_bytes(path, hashlib.sha256(written).digest() + written if head else written)


def read_headed(path: str | Path) -> io.BytesIO:
    """What `write_torch` wrote with a head.  Raises ValueError if it is not that any more."""
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
        stamp: of a receipt, what it was made from; sealed by itself, so that the digest is the
            same where the same was made
    """
    sums = {file.name: digest(file) for file in files}
    seal: dict[str, Any] = {"format": FORMAT, "digest": _digest_of(content, sums), "files": sums}
    if stamp is not None:
        seal |= {"stamp": stamp, "stamp_digest": _digest_of(stamp, {})}
    write_text(path, json.dumps({"seal": seal, **content}, indent=2) + "\n")


def count_up(path: str | Path, **facts: Any) -> None:
    """Write facts and how often this was written; rules take the number for a setting of a step.

    So what failed or was missed is done again by the next start of the sweep.
    """
    times = read_json(path)["times"] if Path(path).is_file() else 0
    write_sealed(path, {"times": times + 1, **facts})


def read_json(path: str | Path) -> Any:
    """Read JSON; of a sealed file without its seal.

    Raises UserError: no such file, not JSON, of a newer format, damaged or edited.
    """
    return _read(Path(path))[0]


def read_seal(path: str | Path) -> dict[str, Any]:
    """Return the seal of a sealed file: format, digest, files and, of a receipt, its stamp.

    Raises UserError: as `read_json`.
    """
    return _read(Path(path))[1]


def check_file(path: str | Path) -> None:
    """Raises UserError if a sealed file beside this one says that it had other contents."""
    path = Path(path)
    own = [path.with_suffix(".json").name] if path.suffix == ".parquet" else []
    for name in (*SEALED, *own):
        if (path.parent / name).is_file():
            sums = read_seal(path.parent / name).get("files", {})
            if path.is_file() and sums.get(path.name, found := digest(path)) != found:
                raise UserError(f"{path}: is damaged or was edited, says {name}; {_remedy(path)}")


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the contents of a JSON file, and its seal; {} where it has none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:  # what is no UTF-8, too
        raise UserError(f"{path}: is not JSON ({error}); {_remedy(path)}") from None
    seal = content.pop("seal", None) if isinstance(content, dict) else None
    if not isinstance(seal, dict):  # none of ours, such as a config
        return content, {}
    if seal.get("format", 0) > FORMAT:
        raise UserError(
            f"{path}: has format {seal['format']}, this version reads up to {FORMAT}; use the "
            "version of mace-lora-sweep that wrote it"
        )
    if seal.get("digest") != _digest_of(content, seal.get("files", {})):
        raise UserError(f"{path}: is damaged or was edited; {_remedy(path)}")
    if "stamp" in seal and seal.get("stamp_digest") != _digest_of(seal["stamp"], {}):
        raise UserError(f"{path}: is damaged or was edited; {_remedy(path)}")
    return content, seal


def _digest_of(content: dict[str, Any], sums: dict[str, str]) -> str:
    text = json.dumps([content, sums], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _remedy(path: Path) -> str:
    """What makes a file anew: snakemake, once it and the receipt of its pack are gone."""
    for below in (path.with_suffix(""), *path.parents[:2]):  # one of them is named by the point
        for receipt in sorted((below.parent / "packs").glob("*.json")):
            if f'"{below.name}"' in receipt.read_text(errors="replace"):
                return f"delete it and {receipt}, and run snakemake again"
    return "delete it and run snakemake again, or fetch it anew"


def digest(*paths: str | Path) -> str:
    """A digest of the contents of files: 16 hex digits of SHA-256."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return total.hexdigest()[:16]
