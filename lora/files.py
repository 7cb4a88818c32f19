"""Small helpers for the files that steps leave behind.  Standard library only."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it, synced, renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_receipt(path: str | Path | None, results: list[dict[str, Any]]) -> None:
    """Write what a step found of each point, {point: result}, once all its files are there."""
    if path:
        write_json(path, {result["point"]: result for result in results})


def read_json(path: str | Path) -> Any:
    """Read JSON."""
    return json.loads(Path(path).read_text())


def digest(*paths: str | Path) -> str:
    """A digest of the contents of files: 16 hex digits of SHA-256."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return total.hexdigest()[:16]
