"""The files of some engines, and what MACE cannot write."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from lora.errors import UserError
from lora.export.formats import write_format
from lora.export.verify import ENGINES

log = logging.getLogger(__name__)


def write(
    model: nn.Module, folder: Path, point: str, names: list[str]
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Write the files of some engines: {engine: file}, and a row for each that cannot be written.

    What MACE cannot write of this model, or not without a package, is no error: the others can.
    """
    files: dict[str, Path] = {}
    unwritten = []
    for name in names:
        path = folder / f"{point}{ENGINES[name].suffix}"
        try:
            if path not in files.values():
                write_format(model, path, ENGINES[name].suffix)
            files[name] = path
        except UserError as error:
            log.warning("%s: not written: %s", path.name, error)
            why = {"verdict": "not written", "why": str(error)}
            unwritten.append({"engine": name, "file": path.name, **why})
    return files, unwritten
