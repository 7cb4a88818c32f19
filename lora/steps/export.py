"""Step `export`: write a merged model for simulation engines, and compare each with the model.

export/{point}/{point}.model, ..., card.json; with --verify also verify.json
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase import Atoms
from rich.console import Console

from lora.catalogue.engines import NAMES, ROWS
from lora.data.calibration import TRUST, Calibration
from lora.data.structures import load_structures
from lora.errors import UserError
from lora.export.card import Licences, make_card, untuned
from lora.export.engines.base import name_of
from lora.export.formats import plain
from lora.export.verify import Proof, is_free, verify
from lora.export.write import write
from lora.files.sealed import read_json, sha256, write_sealed
from lora.files.terminal import WIDTH, libraries_in_the_log
from lora.mace.device import set_threads
from lora.plan.commands import Run
from lora.plan.layout import Layout
from lora.report.export_table import table_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSettings:
    """How to export; fields have the names of the keys of `export` in the config.

    Attributes:
        engines: Names of `lora.catalogue.engines`; by default all that are not optional.
        dtype: float32 or float64; None means that of the merged model.
        steps: The number of MD steps (0.5 fs, constant energy) in each engine.
        base_licence: The licence of the foundation model; None means that of the sweep.
        data_licence: The licence of the data.
        check: Run each engine that is installed, and compare it with the merged model.
        point: The point of the sweep; None means the chosen one.
        out: The folder; None means export/{point} in the results folder, or beside the model.
        head: The head of a model file with several.
        structures_file: The structures to compare on; None means the sweep's validation set.
    """

    engines: tuple[str, ...] = ()
    dtype: str | None = None
    steps: int = 100
    base_licence: str | None = None
    data_licence: str | None = None
    check: bool = False
    point: str | None = None
    out: str | Path | None = None
    head: str | None = None
    structures_file: str | Path | None = None


class Source(NamedTuple):
    """The model to export.

    Attributes:
        model_file: Its .model file.
        point: Its name.
        layout: The results folder; None for a model that is not of a sweep.
    """

    model_file: Path
    point: str
    layout: Layout | None


DEFAULTS = ExportSettings()
ONE_THREAD = Run(threads=1)


def export(
    source: str | Path = "results",
    settings: ExportSettings = DEFAULTS,
    run: Run = ONE_THREAD,
) -> dict[str, Any]:
    """Write a model for simulation engines, with a card, and compare it in them if asked for.

    Args:
        source: The results folder of a sweep, or a .model file.
        settings: What to export, and how.
        run: Threads, one for each engine that is run at a time, and the receipt for what is
            returned.

    Returns:
        {"folder", "card", "verified": rows of `verify` and of files that could not be written, or
        []}.

    Raises:
        UserError: There is nothing to export, an engine does not exist, or one disagrees with the
            merged model.
    """
    set_threads(1)  # tiny structures, one at a time: more threads only cost
    names = list(settings.engines) or [row.name for row in ROWS if not row.optional]
    for name in names:
        if name not in NAMES:
            raise UserError(f"export: {name} is not an engine; use {', '.join(NAMES)}")
    found = find(Path(source), settings.point)
    structures = _structures(found, settings)
    dtype = getattr(torch, settings.dtype) if settings.dtype else None
    model = plain(found.model_file, settings.head, dtype)
    card = _card(model, found, settings, structures)

    folder = Path(settings.out) if settings.out else _folder(found)
    files, unwritten = write(model, folder, found.point, names)
    bounds = _bounds(card, found, folder)
    card["files"] = {
        path.name: {"engines": [n for n in files if files[n] == path], "sha256": sha256(path)}
        for path in (*dict.fromkeys(files.values()), *bounds)
    }
    write_sealed(folder / "card.json", card, [folder / name for name in card["files"]])
    log.info("%s: %s", folder, ", ".join(card["files"]))

    rows: list[dict[str, Any]] = []
    if settings.check:
        kind = next(model.parameters()).dtype
        proof = Proof(found.model_file, structures, kind, settings.head, settings.steps)
        with libraries_in_the_log():
            rows = [*verify(files, proof, run.threads or 1), *unwritten]
        write_sealed(folder / "verify.json", {"verified": rows})
        # of a sweep, the table is in the log and the report
        to = Console(width=WIDTH, stderr=run.receipt is not None)
        to.print(table_of(rows, found.point, name_of(kind)))
        _refuse_failed(rows, folder)
    result = {"folder": str(folder), "card": card, "verified": rows}
    if run.receipt:
        run.receipt.write(result)
    return result


def _structures(source: Source, settings: ExportSettings) -> Sequence[Atoms]:
    """Return the structures to compare on; [] where nothing is compared."""
    path = settings.structures_file
    if not settings.check and not path:
        return []
    path = path or (source.layout.split("valid") if source.layout else None)
    if not path:
        raise UserError("export: --verify on a model file needs --structures_file")
    structures = load_structures(path)
    if all(is_free(atoms) for atoms in structures):
        raise UserError(f"{path}: has only free atoms; give structures to run")
    return structures


def _card(
    model: torch.nn.Module, source: Source, settings: ExportSettings, structures: Sequence[Atoms]
) -> dict[str, Any]:
    """Return the card, and log its warnings."""
    licences = Licences(settings.base_licence, settings.data_licence)
    card = make_card(model, source.point, source.layout, licences)
    symbols = {symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}
    if strange := untuned(card, symbols):
        file = settings.structures_file or "the validation set"
        card["warnings"].append(f"{file} has {' '.join(strange)}, never fine-tuned")
    for warning in card["warnings"]:
        log.warning("%s: %s", source.point, warning)
    return card


def _bounds(card: dict[str, Any], source: Source, folder: Path) -> list[Path]:
    """Write the calibrated bounds of the model's force errors, where it has some, and card them."""
    made = source.layout.calibration(source.point) if source.layout else None
    path = folder / f"{source.point}{TRUST}"
    if made is None or not made.is_file():
        path.unlink(missing_ok=True)  # of an earlier export
        return []
    calibration = Calibration.read(made)
    if calibration.fingerprint != card["fingerprint"]:
        path.unlink(missing_ok=True)
        card["warnings"].append("its bounds of force errors are of another training, and left out")
        return []
    calibration.write(path)
    card["trust"] = {"file": path.name, **calibration.trial.to_dict()}
    return [path]


def _folder(source: Source) -> Path:
    """Return the folder of an export where none is given."""
    above = source.layout or Layout(source.model_file.parent)
    return above.export(source.point)


def _refuse_failed(rows: list[dict[str, Any]], folder: Path) -> None:
    """Raise UserError for the first engine that disagrees with the merged model."""
    failed = [row for row in rows if row["verdict"] == "failed"]
    if failed:
        raise UserError(
            f"{folder / failed[0]['file']}: {failed[0]['engine']} disagrees with the merged model "
            f"in ASE ({failed[0]['why']}); do not use it, and see verify.json"
        )


def find(source: Path, point: str | None) -> Source:
    """Return the model to export.

    Args:
        source: The results folder of a sweep, or a .model file.
        point: The point of the sweep; None means the chosen one, or the name of the file.

    Raises:
        UserError: The file is missing, or no point is chosen yet.
    """
    if source.is_dir():
        layout: Layout | None = Layout(source)
        best = Layout(source).receipt("choose")
        if point is None and not best.is_file():
            raise UserError(
                f"{source} has no report/best.json yet; finish the sweep, or name a point with "
                "--point"
            )
        point = point or str(read_json(best)["point"])
        model_file = Layout(source).model(point)
    else:
        above = [*source.resolve().parents, Path("/")][2:3]
        layout = Layout(above[0]) if above else None
        ours = layout and source.resolve() == layout.model(source.stem) and layout.plan.is_file()
        layout = layout if ours else None
        model_file, point = source, point or source.stem
    if not model_file.is_file():
        merged = layout is not None and model_file.with_name("merge.json").is_file()
        again = f" (keep_models: mace-lora merge {layout.plan} {point} merges it)" if merged else ""
        raise UserError(
            f"{model_file}: no such file{again}; give a results folder or a .model file"
        )
    return Source(model_file, point, layout)
