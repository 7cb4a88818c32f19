"""Take out of the sweeps of a cell what the table keeps: a row a point, in a small CSV file."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cells import FOUNDATION, RATES, TABLE, Cell, Part

from lora.catalogue.columns import ENERGY, FORCE, VALID
from lora.files.history import read_history
from lora.files.sealed import write_text
from lora.plan.sweep import Sweep
from lora.selection.race import best_so_far
from lora.selection.results import Results, read_results, read_trained
from lora.selection.verdict import judge
from lora.training.results import HISTORY

SETS = (VALID, "test")
OF_TRAINING = ("epochs", "best_epoch", "ended_by", "trainable_parameters", "seconds")
CURVE = 16  # epochs of a curve that are kept
LATE = 0.9  # of its epochs, after which a training should gain no more
NO_CHECKS = Results({}, {}, {})


def best_rates(cell: Cell, work: Path) -> dict[str, float]:
    """Return the learning rate of each method with the lowest validation error of forces.

    Args:
        cell: The cell, whose stage rates has come to its end.
        work: The folder of all cells.

    Raises:
        UserError: A receipt is damaged.
    """
    found = pd.DataFrame([x for part in cell.parts for x in rows(cell, RATES, part, work)])
    known = found.dropna(subset=[f"valid_{FORCE}"]).sort_values(f"valid_{FORCE}")
    best = known.drop_duplicates("method").set_index("method")["lr"]
    return {str(method): float(lr) for method, lr in best.items()}


def write_cell(cell: Cell, work: Path, path: Path) -> None:
    """Write the CSV of a cell whose stages have come to their end, whole or not at all.

    Args:
        cell: The cell.
        work: The folder of all cells.
        path: The file.
    """
    every = [x for s in (RATES, TABLE) for part in cell.parts for x in rows(cell, s, part, work)]
    table = pd.DataFrame(every)
    table = table[~(table["method"] == FOUNDATION) | ~table.duplicated(["stage", "method"])]
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def rows(cell: Cell, stage: str, part: Part, work: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each point of a sweep.

    Args:
        cell: The cell.
        stage: rates, where nothing but the validation set is looked at, or table.
        part: The sweep.
        work: The folder of all cells.
    """
    sweep = cell.sweep(work, stage, part)
    trained = read_trained(sweep, "choose")
    found = read_results(sweep, "choose") if stage == TABLE else NO_CHECKS
    verdicts = judge(found.checks, {})
    for name, point in sweep.points.items():
        one = point.settings
        row: dict[str, Any] = {"base": cell.base, "molecule": cell.molecule, "n": cell.n}
        row |= {"length": cell.length}
        row |= {"e0s": cell.e0s, "stage": stage, "method": part.method_of(point)}
        row |= {"lr": one.lr if one else None, "seed": one.seed if one else None}
        row |= _errors(trained.get(name, {}), found.evaluated.get(name))
        checks = verdicts.get(name, {})
        compared = checks["forgetting"].compared if "forgetting" in checks else None
        failed = [x for x, verdict in checks.items() if not verdict.passed]
        row |= {"forgetting": compared, "checks": len(checks), "failed": " ".join(failed)}
        yield row | {x: trained.get(name, {}).get(x) for x in OF_TRAINING} | _course(sweep, name)


def _errors(result: dict[str, Any], sets: dict[str, Any] | None) -> dict[str, Any]:
    """Return the errors of a point: evaluated, or on the validation set at the best epoch."""
    if sets is None:
        best = result.get("best", {})
        sets = {VALID: {x: best.get(f"valid_{x}") for x in (ENERGY, FORCE)}}
    return {f"{s}_{x}": sets.get(s, {}).get(x) for s in SETS for x in (ENERGY, FORCE)}


def _course(sweep: Sweep, name: str) -> dict[str, Any]:
    """Return the validation errors of forces of a training, thinned, and what it gained late."""
    history = read_history(sweep.layout.training(name) / HISTORY)
    if not history:
        return {"late_gain": None, "curve": ""}
    key = f"valid_{FORCE}"
    curve = " ".join(f"{i}:{history[i][key]:.4g}" for i in thinned(len(history) - 1))
    return {"late_gain": late_gain(best_so_far(history, key)), "curve": curve}


def thinned(last: int) -> list[int]:
    """Return the epochs of a curve that are kept, denser at its beginning.

    Args:
        last: The last epoch.
    """
    spread = np.geomspace(1, last + 1, CURVE) - 1
    return sorted({round(float(x)) for x in spread})


def late_gain(errors: Sequence[float]) -> float:
    """Return by what share the best error fell in the last tenth of the epochs.

    Args:
        errors: The error of the best epoch so far, after each epoch.
    """
    before, after = errors[math.floor(LATE * (len(errors) - 1))], errors[-1]
    return (before - after) / before if before else 0.0
