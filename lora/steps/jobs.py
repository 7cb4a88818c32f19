"""Run one job of a plan: read what the plan says, call the step, seal its receipt.

`mace-lora STEP PLAN [NAME]` comes here.  Each function below is one step of the DAG: what it
reads and writes, by the paths of the layout.  The functions that it calls know nothing of plans.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lora.errors import UserError
from lora.files.sealed import Receipt, read_json
from lora.plan.bundles import bundles_of
from lora.plan.commands import Limits, Part
from lora.plan.freshness import Files, Why, stamp
from lora.plan.job import key_of
from lora.plan.layout import BY_PACK
from lora.plan.packs import Pack
from lora.plan.sweep import Sweep
from lora.selection.results import with_model
from lora.steps import data_jobs
from lora.steps.call import Call, Given
from lora.steps.models import drop_models, write_models

if TYPE_CHECKING:
    from lora.steps.check import CheckFiles

__all__ = ["STEPS", "Call", "Given", "run"]


def run(step: str, plan: str | Path, name: str, given: Given) -> None:
    """Run a job; the name of a point stands for the job that it is in.

    Raises UserError: the plan has no such job, or what the step raises.
    """
    sweep = Sweep.load(plan)
    if key_of(step, name) not in sweep.jobs and name in sweep.pack_of:  # a point
        name = sweep.pack_of[name] if step == "train" else sweep.bundle_of(name)
    key = key_of(step, name)
    if key not in sweep.jobs:
        known = [x.name or x.step for x in sweep.jobs.values() if x.step == step]
        has = f"it has {', '.join(known[:12])}" if known else "its config asks for none"
        raise UserError(f"{plan} has no job {key}; {has}")
    job = sweep.jobs[key]
    kept = sweep.layout.foundation_model
    if kept in job.files.values() and not kept.is_file():
        raise UserError(f"{kept}: no such file; run mace-lora foundation {plan} first")
    made_of = stamp(job, {x: sweep.jobs[x] for x in job.needs}, Files())
    STEPS[step](Call(sweep, job, given, Receipt(job.receipt, made_of)))


def _train(call: Call) -> None:
    from lora.steps.train import TrainFiles, train_pack
    from lora.tracking.live import Live
    from lora.training.distributed import is_first

    sweep, layout, pack = call.sweep, call.sweep.layout, call.sweep.packs[call.job.name]
    part = _part(call, pack)
    rung = part.rung
    there = [x for x in pack.points if not x.polished or sweep.is_sound(sweep.points[x.cut_from])]
    points = {layout.training(x.name, rung): x.settings for x in there if x.settings}
    files = TrainFiles(
        *(layout.split("train"), layout.split("valid"), layout.receipt("e0s")),
        replay=layout.replayed if pack.protocol.replay else None,
        keep=layout.kept if pack.protocol.keep else None,
    )
    last = bool(call.given.attempt) and call.given.attempt >= sweep.tries
    limits = Limits(call.given.minutes or None, last, part)
    if not points:  # fewer went on at the rung than there was room for, or failed
        if is_first():
            call.receipt.write({})
        return
    if is_first():
        _take_over(call, pack, rung)
    with Live(sweep) as live:
        work = layout.work(pack.name)
        train_pack(points, call.base, files, work, call.run, limits, watch=live)


def _take_over(call: Call, pack: Pack, rung: int) -> None:
    """Delete what packs that are no longer in the plan say of points that train anew here.

    A grid and a race have other packs and the same folders of points.
    """
    names, results = {x.name for x in pack.points}, call.sweep.layout.results
    for step in BY_PACK if not rung else ("train",):
        for receipt in (results / step / "packs").glob("*.json"):
            known = call.sweep.packs if step == "train" else bundles_of(call.sweep.packs)
            if receipt.stem not in known:
                try:
                    found = read_json(receipt)
                except UserError:
                    if receipt.exists():
                        raise
                    continue  # another job has just deleted it
                same = {x for x in found if step != "train" or found[x].get("rung", 0) == rung}
                if names & same:
                    receipt.unlink(missing_ok=True)


def _part(call: Call, pack: Pack) -> Part:
    """Return which part of its points' trainings a pack is: in a race from rung to rung, else all.

    What the same code has made of the same settings and data is taken, unless the user asks for it
    anew: not all that runs the split or the E0s again changes what is trained on.
    """
    layout, leg = call.sweep.layout, pack.leg
    mark = layout.mark("train", pack.name)
    forced = mark.is_file() and mark.read_text().startswith(Why.FORCED)
    made_of = json.dumps([call.receipt.stamp[x] for x in ("code", "versions")])
    if leg is None:
        return Part(code=made_of, take=not forced)
    rung = leg.number if leg.until is not None else 0
    begun, cut = {}, {}
    for point in pack.points:
        if point.polished:
            cut[layout.training(point.name)] = layout.training(point.cut_from) / "adapter"
            continue
        so_far = layout.training(point.name, leg.number - 1)
        if leg.number > 1 and so_far.is_dir():
            begun[layout.training(point.name, rung)] = so_far
    return Part(rung, leg.until, begun, made_of, take=not forced, cut=cut)


def _probe(call: Call) -> None:
    from lora.steps.probe import probe

    layout, settings, number = call.sweep.layout, call.job.settings, int(call.job.name)
    packs = [x for x in call.sweep.packs.values() if x.leg and x.leg.number == number]
    every = {x.name: layout.training(x.name, number) / "adapter" for p in packs for x in p.points}
    adapters = {x: adapter for x, adapter in every.items() if adapter.is_dir()}  # no failed ones
    work = call.receipt.path.with_suffix("")
    probe(call.base, adapters, settings, _check_files(call), work, call.run)


def _rung(call: Call) -> None:
    from lora.steps.rung import rung

    rung(call.sweep, int(call.job.name), call.receipt)


def _truncate(call: Call) -> None:
    from lora.steps.truncate import truncate

    point = call.sweep.points[call.job.name]
    assert point.settings is not None
    if not call.sweep.is_sound(point):
        call.receipt.write({"not_cut": f"the training of {point.cut_from} failed"})
        return
    adapter = call.sweep.layout.training(point.cut_from) / "adapter"
    out = call.sweep.layout.cut(point.name)
    truncate(call.base, adapter, out, rank=point.settings.rank, run=call.run)


def _merge(call: Call) -> None:
    write_models(call.sweep, call.base, call.points, call.run)


def _evaluate(call: Call) -> None:
    from lora.steps.evaluate import evaluate

    layout = call.sweep.layout
    call.at_hand(call.points)
    models = {layout.errors(x): layout.model(x) for x in call.points}
    size = call.job.settings["batch_size"]
    evaluate(models, layout.split("valid"), layout.split("test"), batch_size=size, run=call.run)
    drop_models(call.sweep, call.job.name)


def _check(call: Call) -> None:
    layout = call.sweep.layout
    _run_checks(call, {layout.checks(x): layout.model(x) for x in call.points})
    drop_models(call.sweep, call.job.name)


def _thorough(call: Call) -> None:
    layout = call.sweep.layout
    listed = read_json(layout.receipt("shortlist"))["models"]
    folder = call.receipt.path.parent
    # long checks have many structures of their own to compute together, and two cores
    _run_checks(call, {folder / f"{x}.json": layout.model(x) for x in listed}, most=2)


def _run_checks(call: Call, models: dict[Path, Path], most: int = 4) -> None:
    from lora.steps.check import check

    call.at_hand([x.stem for x in models.values()])
    settings = call.job.settings
    check(models, settings["names"], _check_files(call), settings["own"], run=call.run, most=most)


def _check_files(call: Call) -> "CheckFiles":
    from lora.steps.check import CheckFiles

    layout, holdout = call.sweep.layout, call.job.files.get("holdout")
    return CheckFiles(layout.split("valid"), layout.receipt("e0s"), holdout, call.keys)


def _shortlist(call: Call) -> None:
    from lora.steps.shortlist import shortlist

    shortlist(call.sweep, call.receipt)
    drop_models(call.sweep)


def _choose(call: Call) -> None:
    from lora.steps.choose import choose

    choose(call.sweep, call.receipt)
    call.at_hand(call.chosen)  # where no long check has asked for it


def _trust(call: Call) -> None:
    from lora.steps.trust import TrustFiles, trust

    settings, (point,) = call.job.settings, call.chosen
    call.at_hand([point])
    members = with_model(call.sweep, call.job.key, settings["committee"])
    files = TrustFiles.of(call.sweep.layout, point, members)
    trust(point, files, settings["coverage"], settings["batch_size"], call.run)


def _report(call: Call) -> None:
    from lora.steps.report import report

    report(call.sweep, call.job.name, call.receipt)


def _export(call: Call) -> None:
    from lora.steps.export import ExportSettings, export

    config = call.sweep.config.export
    call.at_hand(call.chosen)
    settings = ExportSettings(**config.model_dump(), check=True)
    export(call.sweep.layout.results, settings, call.run)


def _track(call: Call) -> None:
    from lora.steps.track import TrackSettings, track

    config = call.sweep.config.tracking
    own = TrackSettings(config.uri, config.experiment, config.model, or_later=True, named=False)
    track(call.sweep, own, call.receipt)


STEPS = {
    "foundation": data_jobs.run_foundation,
    "split": data_jobs.run_split,
    "replay": data_jobs.run_replay,
    "audit": data_jobs.run_audit,
    "e0s": data_jobs.run_e0s,
    "keep": data_jobs.run_keep,
    "train": _train,
    "probe": _probe,
    "rung": _rung,
    "truncate": _truncate,
    "merge": _merge,
    "evaluate": _evaluate,
    "check": _check,
    "shortlist": _shortlist,
    "thorough": _thorough,
    "choose": _choose,
    "trust": _trust,
    "report": _report,
    "export": _export,
    "track": _track,
}
