"""Step `probe`: check the models of a race as they are at a rung.

train/rungs/{rung}_checks.json
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lora.plan.commands import Base, Run
from lora.steps.check import CheckFiles, Settings, check
from lora.steps.merge import merge


def probe(
    base: Base,
    adapters: Mapping[str, Path],
    names: list[str],
    files: CheckFiles,
    settings: Settings | None = None,
    run: Run = Run(),
) -> None:
    """Merge adapters, check the models, and keep what was found alone.

    Args:
        base: The foundation model of all of them.
        adapters: {point: folder of its adapter at the rung}.
        names: The checks.
        files: The files that they work on.
        settings: {check: {argument: value}} over the defaults of each.
        run: Threads, and the receipt for {point: what `lora.steps.check` finds of it}.

    Raises:
        UserError: An adapter is of another base.
    """
    by_hand = Run(run.threads)
    with TemporaryDirectory() as folder:
        models = {x: Path(folder, x, f"{x}.model") for x in adapters}
        merge(
            base, files.valid, {models[x]: adapter for x, adapter in adapters.items()}, run=by_hand
        )
        outs = {Path(folder, f"{x}.json"): model for x, model in models.items()}
        found = check(outs, names, files, settings, run=by_hand)
    if run.receipt:
        run.receipt.write_points(found)
