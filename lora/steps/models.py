"""Keep the merged models that are asked for; merge others again where a step needs them.

A merged model is as large as its foundation model, and its adapter a hundredth of that.  So large
sweeps keep adapters of all points and merged models of the finalists alone (`keep_models`): those
of a bundle go once they are evaluated and checked.
"""

import fcntl
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.bundles import bundles_of
from lora.plan.commands import Base, Run
from lora.plan.job import key_of
from lora.plan.layout import Layout
from lora.plan.packs import keeps_all
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep

log = logging.getLogger(__name__)


def write_models(sweep: Sweep, base: Base, points: Iterable[str], run: Run) -> None:
    """Merge points.

    Args:
        sweep: The sweep.
        base: The foundation model, as the step `foundation` has kept it.
        points: Their names; `foundation` comes alone.
        run: Threads, and the receipt.

    Raises:
        UserError: As `lora.steps.merge.merge`.
    """
    from lora.steps.merge import merge  # and torch, which is not needed to find a model there

    layout, points = sweep.layout, list(points)
    alone = points == [FOUNDATION.name]
    adapters = {layout.model(x): None if alone else _adapter(sweep, x) for x in points}
    settings = sweep.jobs[key_of("merge", sweep.bundle_of(points[0]))].settings if points else {}
    e0s_file, dtype = layout.receipt("e0s") if alone else None, settings.get("dtype", "float64")
    merge(base, layout.split("valid"), adapters, e0s_file, dtype, run)


def _adapter(sweep: Sweep, point: str) -> Path:
    """Return the folder of a point's adapter, or weights."""
    layout = sweep.layout
    return (layout.cut(point) if point in sweep.cuts else layout.training(point)) / "adapter"


def at_hand(sweep: Sweep, base: Base, points: Sequence[str], threads: int | None = None) -> None:
    """Merge again those of some points whose models were not kept.

    Args:
        sweep: The sweep, whose points are merged.
        base: The foundation model, as the step `foundation` has kept it.
        points: Their names.
        threads: CPU threads, None for torch's choice.

    Raises:
        UserError: A model is not the one that was merged before.
    """
    if all(_is_there(sweep.layout, x) for x in points):
        return
    (sweep.layout.results / "merge").mkdir(parents=True, exist_ok=True)
    with (sweep.layout.results / "merge" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another job may need the same ones
        for alone in (True, False):
            _merge_again(
                sweep, base, [x for x in points if (x == FOUNDATION.name) is alone], threads
            )


def _merge_again(sweep: Sweep, base: Base, points: list[str], threads: int | None) -> None:
    """Merge those of some points that were merged before and have no model.

    Raises UserError: a model is not the one that was merged before; none of those stays.
    """
    layout = sweep.layout
    gone = [x for x in points if not _is_there(layout, x)]
    receipts = {x: layout.receipt("merge", sweep.bundle_of(x)) for x in gone}
    gone = [x for x in gone if receipts[x].is_file() and x in read_json(receipts[x])]
    if not gone:
        return
    log.info("merged again, as merged models are not kept (keep_models): %s", ", ".join(gone))
    write_models(sweep, base, gone, Run(threads))
    others = [
        x for x in gone if _fingerprint(layout, x) != read_json(receipts[x])[x]["fingerprint"]
    ]
    for point in others:
        layout.model(point).unlink()
    if others:
        raise UserError(
            f"{layout.model(others[0])}: merged again it is another model, as its adapter has "
            f"changed. Delete {receipts[others[0]]}, then run snakemake again."
        )


def _is_there(layout: Layout, point: str) -> bool:
    """Return True for a merged model with its proof; a merge that was ended leaves one alone."""
    model = layout.model(point)
    return model.is_file() and model.with_name("merge.json").is_file()


def _fingerprint(layout: Layout, point: str) -> str:
    return str(read_json(layout.model(point).with_name("merge.json"))["fingerprint"])


def drop_models(sweep: Sweep, bundle: str = "") -> None:
    """Delete the merged models of what is evaluated and checked, but for the finalists.

    Args:
        sweep: The sweep.
        bundle: Of which packs; "" means all.
    """
    if keeps_all(sweep.config, sweep.packs.values()):
        return
    layout = sweep.layout
    kept = {FOUNDATION.name}
    if (listed := layout.receipt("shortlist")).is_file():
        kept |= read_json(listed)["models"].keys()
    if (chosen := layout.receipt("choose")).is_file():
        kept.add(read_json(chosen)["point"])
    steps = ("evaluate", "check") if sweep.config.checks.of_every_point else ("evaluate",)
    for name, packs in bundles_of(sweep.packs).items():
        if name == (bundle or name) and all(_is_done(sweep, step, name) for step in steps):
            for point in (x.name for pack in packs for x in pack.points):
                if point not in kept:
                    layout.model(point).unlink(missing_ok=True)


def _is_done(sweep: Sweep, step: str, bundle: str) -> bool:
    """Return False for a job that has yet to run, or to run again."""
    receipt, mark = sweep.layout.receipt(step, bundle), sweep.layout.mark(step, bundle)
    if not receipt.is_file():
        return False
    return not mark.is_file() or mark.stat().st_mtime < receipt.stat().st_mtime
