"""Step `export`: a merged model for simulation engines, and the proof that they agree with it.

export/{point}/{point}.model, ..., card.json; with --verify also verify.json
"""

import logging
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from lora.data.structures import load_structures
from lora.errors import UserError
from lora.export.card import make_card, untuned
from lora.export.engines.base import name_of
from lora.export.formats import plain
from lora.export.verify import ENGINES, verify
from lora.export.write import write
from lora.files.sealed import Receipt, digest, read_json, write_sealed
from lora.mace.device import set_threads
from lora.report.export_table import table_of

log = logging.getLogger(__name__)


def export(
    source: str | Path = "results",
    point: str | None = None,
    out: str | Path | None = None,
    engines: list[str] | None = None,
    dtype: str | None = None,
    head: str | None = None,
    check: bool = False,
    structures_file: str | Path | None = None,
    steps: int = 100,
    base_licence: str | None = None,
    data_licence: str | None = None,
    threads: int = 1,
    receipt: Receipt | None = None,
) -> dict[str, Any]:
    """Write a model for simulation engines, with a card, and prove it in them.

    Args:
        source: results folder of a sweep, or a .model file
        point: of the sweep; its chosen one by default
        out: folder of the export; export/{point} in the results folder, or beside the model
        engines: of `ENGINES`; all but the optional cueq by default
        dtype: float32 or float64; as merged by default
        head: of a model file with several
        check: run each engine that is installed, and print what it gave
        structures_file: what to compare on; by default the sweep's validation set
        steps: of the run at constant energy in each engine
        base_licence, data_licence: for the card, where they are not known here
        receipt: a json file with the card and what was verified

    Returns {"folder", "card", "verified": rows of `verify` and of what was not written, or []}.

    Raises UserError: nothing to export, an engine that does not exist, or one that disagrees.
    """
    set_threads(threads)
    names = engines or [name for name in ENGINES if name != "cueq"]
    for name in names:
        if name not in ENGINES:
            raise UserError(f"export: {name} is not an engine; use {', '.join(ENGINES)}")
    model_file, point, results = find(Path(source), point)
    structures = []
    if check or structures_file:
        structures_file = structures_file or (results / "data/valid.xyz" if results else None)
        if not structures_file:
            raise UserError("export: --verify on a model file needs --structures_file")
        structures = load_structures(structures_file)
        if not any(len(atoms) > 1 for atoms in structures):
            raise UserError(f"{structures_file}: has only free atoms; give structures to run")

    model = plain(model_file, head, getattr(torch, dtype) if dtype else None)
    card = make_card(model, point, results, {"base": base_licence, "data": data_licence})
    symbols = {symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}
    if strange := untuned(card, symbols):
        card["warnings"].append(f"{structures_file}: has {' '.join(strange)}, never fine-tuned")
    for warning in card["warnings"]:
        log.warning("%s: %s", point, warning)

    folder = Path(out) if out else (results or model_file.parent) / "export" / point
    kind = next(model.parameters()).dtype
    files, unwritten = write(model, folder, point, names)
    card["files"] = {
        path.name: {"engines": [n for n in files if files[n] == path], "digest": digest(path)}
        for path in dict.fromkeys(files.values())
    }
    write_sealed(folder / "card.json", card, [folder / name for name in card["files"]])
    log.info("%s: %s", folder, ", ".join(card["files"]))

    rows = verify(model_file, files, structures, kind, head, steps) if check else []
    if check:
        rows += unwritten
        write_sealed(folder / "verify.json", {"verified": rows})
        Console(width=120).print(table_of(rows, point, name_of(kind)))
    result = {"folder": str(folder), "card": card, "verified": rows}
    failed = [row for row in rows if row["verdict"] == "failed"]
    if failed:
        raise UserError(
            f"{folder / failed[0]['file']}: {failed[0]['engine']} disagrees with the merged model "
            f"in ASE ({failed[0]['why']}); do not use it, and see verify.json"
        )
    if receipt:
        receipt.write(result)
    return result


def find(source: Path, point: str | None) -> tuple[Path, str, Path | None]:
    """The model file, its point, and the results folder if it is of a sweep."""
    if source.is_dir():
        best = source / "report" / "best.json"
        if point is None and not best.is_file():
            raise UserError(f"{source}: has no report/best.json yet; finish the sweep, or --point")
        point = point or str(read_json(best)["point"])
        model_file, results = source / "merge" / point / f"{point}.model", source
    else:
        above = [*source.resolve().parents, Path("/")][2:3]
        ours = source.stem == source.resolve().parent.name and (above[0] / "config.json").is_file()
        model_file, results = source, above[0] if ours else None
        point = point or source.stem
    if not model_file.is_file():
        raise UserError(f"{model_file}: no such file; give a results folder or a .model file")
    return model_file, point, results
