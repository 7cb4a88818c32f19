"""Write the files of some engines, and say which cannot be written."""

import logging
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from lora.catalogue.engines import BY_NAME
from lora.errors import UserError
from lora.export.formats import write_format
from lora.mace.describe import taken_by

log = logging.getLogger(__name__)


def write(
    model: nn.Module, folder: Path, point: str, names: list[str]
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Write the files of some engines.

    A file that MACE cannot write of this model, or not without a package, is no error, because
    the others can still be used.

    Args:
        model: The model, with one head.
        folder: The folder to write to.
        point: The name of the point, with which file names begin.
        names: The engines, names of `lora.catalogue.engines`.

    Returns:
        {engine: file}, and a row {"engine", "file", "verdict", "why"} for each file that could not
        be written.
    """
    files: dict[str, Path] = {}
    unwritten = []
    for name in names:
        path = folder / f"{point}{BY_NAME[name].suffix}"
        try:
            _refuse_charged(model, name)
            if path not in files.values():
                write_format(model, path, BY_NAME[name])
            files[name] = path
        except UserError as error:
            log.warning("%s: not written: %s", path.name, error)
            why = {"verdict": "not written", "why": str(error)}
            unwritten.append({"engine": name, "file": path.name, **why})
    return files, unwritten


def unwritable(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return why files of some engines cannot be written of a model, by engine; {} where all can.

    Args:
        model: The model, with one head.
        names: The engines.
    """
    with TemporaryDirectory() as folder:
        rows = write(model, Path(folder), "base", list(names))[1]
    return {row["engine"]: row["why"] for row in rows}


def _refuse_charged(model: nn.Module, name: str) -> None:
    """Raise UserError where an engine cannot tell a model what it takes."""
    if (taken := taken_by(model)) and not BY_NAME[name].charged:
        raise UserError(f"the model takes {' and '.join(taken)}, which {name} does not tell it")
