"""Step `check`: what the test sets do not tell of merged models.

check/{point}.json
"""

from pathlib import Path
from typing import Any

from lora.calculators.potential import Potential
from lora.catalogue.checks import NAMES
from lora.checks.run import make_sample, run
from lora.data.structures import elements_of, is_isolated_atom, load_structures, read_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json, write_sealed
from lora.mace.device import check_device, set_threads


def check(
    models: dict[Path, Path],
    names: list[str],
    valid_file: str | Path,
    e0s_file: str | Path,
    holdout_file: str | Path | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
    keys: dict[str, str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    receipt: Receipt | None = None,
) -> list[dict]:
    """Run checks on merged models and write a json file for each.

    Args:
        models: {json file to write: .model file}
        names: of the checks, see `lora.catalogue.checks`
        valid_file: of the split; a few of its structures are what most checks work on
        e0s_file: e0s.json, for the foundation model's own E0s
        holdout_file: labelled structures of the foundation model's own level of theory
        settings: {check: {argument: value}} over the defaults of each
        keys: what the holdout file calls energy and forces: {"energy_key", "forces_key"}
        receipt: for the contents of all of them

    Returns the contents of each json file: {"point", "checks": {name: {"value", "unit", "limit",
    "compare", "meaning", "source", "detail", "seconds"}}, "not_checked": {name: why}}.

    Raises UserError: a check that does not exist, or settings that it does not take.
    """
    set_threads(threads)
    check_device(device)
    for name in [*names, *(settings or {})]:
        if name not in NAMES:
            raise UserError(f"checks: {name} is not known; use {', '.join(NAMES)}")
    found = [a for a in load_structures(valid_file) if not is_isolated_atom(a)]
    holdout = read_structures(holdout_file, **(keys or {})) if holdout_file else []
    sample = make_sample(found, holdout, read_json(e0s_file)["foundation_E0s"], settings or {})
    numbers = elements_of([*found, *holdout])
    results = []
    for out, model_file in models.items():
        potential = Potential(model_file, numbers, device)
        result = {"point": Path(out).stem} | run(potential, sample, names)
        write_sealed(out, result)
        results.append(result)
    if receipt:
        receipt.write_points(results)
    return results
