"""Step `probe`: check the models of a race as they are at a rung, and the foundation model.

train/rungs/{rung}_checks.json
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora.plan.commands import Base, Run
from lora.plan.points import FOUNDATION
from lora.steps.check import CheckFiles, check
from lora.steps.merge import merge

AT_ONCE = 4  # models on the disk, and computed together


def probe(
    base: Base,
    adapters: Mapping[str, Path],
    settings: Mapping[str, Any],
    files: CheckFiles,
    folder: Path,
    run: Run = Run(),
) -> None:
    """Merge adapters, check the models, and keep what was found alone.

    Args:
        base: The foundation model of all of them.
        adapters: {point: folder of its adapter at the rung}.
        settings: "names" of the checks, their "own" settings, and the "dtype" of trainings.
        files: The files that the checks work on.
        folder: Where models lie meanwhile; what another try has left there is deleted.
        run: Threads, and the receipt for {point: what `lora.steps.check` finds of it}.

    Raises:
        UserError: An adapter is of another base.
    """
    by_hand, names = Run(run.threads), list(adapters)
    parts = [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
    found = []
    for part in [[FOUNDATION.name], *parts]:
        shutil.rmtree(folder, ignore_errors=True)
        models = {x: folder / x / f"{x}.model" for x in part}
        e0s_file = files.e0s if part == [FOUNDATION.name] else None
        from_adapters = {models[x]: adapters.get(x) for x in part}
        merge(base, files.valid, from_adapters, e0s_file, settings["dtype"], by_hand)
        outs = {folder / f"{x}.json": model for x, model in models.items()}
        found += check(outs, settings["names"], files, settings["own"], run=by_hand)
    shutil.rmtree(folder, ignore_errors=True)
    if run.receipt:
        run.receipt.write_points(found)
