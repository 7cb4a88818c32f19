"""Step `check`: find what test sets do not show in merged models.

check/{point}.json
"""

import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lora.calculators.potential import Potential, Together
from lora.catalogue.checks import NAMES
from lora.checks.run import make_sample, run_checks
from lora.data.labels import Keys
from lora.data.structures import elements_of, is_isolated_atom, load_structures, read_structures
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed
from lora.files.terminal import Meter
from lora.mace.device import check_device
from lora.mace.processes import side_by_side
from lora.plan.commands import Run
from lora.plan.words import few

log = logging.getLogger(__name__)
Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CheckFiles:
    """The files that the checks work on.

    Attributes:
        valid: valid.xyz of the split; most checks work on a few of its structures.
        e0s: e0s.json, for the foundation model's own E0s.
        holdout: Labelled structures of the foundation model's own level of theory, or None.
        keys: The names of the holdout's labels.
    """

    valid: str | Path
    e0s: str | Path
    holdout: str | Path | None = None
    keys: Keys = Keys()


def check(
    models: dict[Path, Path],
    names: list[str],
    files: CheckFiles,
    settings: Settings | None = None,
    device: str = "cpu",
    run: Run = Run(),
    most: int = 4,
) -> list[dict[str, Any]]:
    """Run checks on merged models and write a JSON file for each model.

    Args:
        models: {JSON file to write: .model file}.
        names: The checks, names of `lora.catalogue.checks`.
        files: The files that they work on.
        settings: {check: {argument: value}} over the defaults of each.
        device: The device: cpu, cuda or cuda:N.
        run: Threads, which groups of models share, and the receipt for the contents of all JSON
            files.
        most: Models that are computed together; more than 4 find no room in a CPU's caches.

    Returns:
        The content of each JSON file: {"point"} and what `lora.checks.run.run_checks` returns.

    Raises:
        UserError: A check does not exist, or does not take one of its settings.
    """
    check_device(device)
    for name in [*names, *(settings or {})]:
        if name not in NAMES:
            raise UserError(f"checks: {name} is not known; use {', '.join(NAMES)}")
    labelled = read_structures(files.holdout, files.keys) if files.holdout else []
    found, holdout = (
        [atoms for atoms in part if not is_isolated_atom(atoms)]
        for part in (load_structures(files.valid), labelled)
    )
    e0s = read_json(files.e0s)["foundation_E0s"]
    sample = make_sample(found, holdout, e0s, settings or {})
    numbers = elements_of([*found, *holdout])

    def found_of(outs: list[Path]) -> list[dict[str, Any]]:
        potentials = [Potential(models[out], numbers, device) for out in outs]
        told = replace(sample, meter=Meter(f"checks of {few((x.stem for x in outs), 2)}"))
        found = Together(potentials).run(partial(run_checks, sample=told, names=names))
        return [{"point": out.stem} | one for out, one in zip(outs, found, strict=True)]

    groups = side_by_side(found_of, _groups(list(models), most), run.threads)
    results = [result for group in groups for result in group]
    for out, result in zip(models, results, strict=True):
        write_sealed(out, result)
        for name, one in result["checks"].items():
            told = (result["point"], name, one["value"], one["unit"], one["seconds"])
            log.info("%s: %-12s %10.3g %-12s %6.1f s", *told)
    if run.receipt:
        run.receipt.write_points(results)
    return results


def _groups(models: list[Path], most: int) -> list[list[Path]]:
    """Return models in groups of nearly equal size that are computed together.

    Whoever works on them: with other company a number is another in its last digit.
    """
    n = max(1, math.ceil(len(models) / most))
    return [models[i * len(models) // n : (i + 1) * len(models) // n] for i in range(n)]
