"""Read what the steps of a sweep found of each point, from the receipts of their jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.catalogue.endings import NO_MODEL, Ending
from lora.files.sealed import check_file, read_json
from lora.plan.race import read_rung
from lora.plan.sweep import Sweep

Found = dict[str, dict[str, Any]]  # {point: what a step found}


@dataclass(frozen=True)
class Results:
    """What the steps found.  Trainings that failed or were stopped are in `trained` alone.

    trained:   {point: contents of train.json}
    evaluated: {point: {set: {error: value}}}
    checks:    {point: {check: finding}}
    thorough:  the points that had the long checks
    """

    trained: Found
    evaluated: Found
    checks: Found
    thorough: frozenset[str] = frozenset()

    @property
    def sets(self) -> list[str]:
        """Return the names of the sets, in the order of the evaluation."""
        return list(next(iter(self.evaluated.values()), {}))


def read_results(sweep: Sweep, job: str) -> Results:
    """Read the receipts that a job needs.

    Args:
        sweep: The sweep.
        job: The key of a job that needs trainings, evaluations and checks.

    Raises:
        UserError: A receipt is missing or damaged.
    """
    trained = read_trained(sweep, job)
    failed = {name for name, result in trained.items() if result["ended_by"] in NO_MODEL}
    failed |= {x.name for x in sweep.points.values() if x.cut_from in failed}
    evaluated = read_receipts(sweep, job, "evaluate")
    thorough = read_receipts(sweep, job, "thorough")
    tiers = [read_receipts(sweep, job, "check"), thorough]
    sound = [name for name in sweep.points if name not in failed and sweep.began(name)]
    return Results(
        trained,
        {name: evaluated[name]["sets"] for name in sound},
        {name: gather(tiers, name) for name in sound},
        frozenset(thorough),
    )


def read_trained(sweep: Sweep, job: str) -> Found:
    """Return what the trainings that a job needs gave, and of those that a race stopped, why.

    Args:
        sweep: The sweep.
        job: The key of the job.

    Raises:
        UserError: A receipt is missing or damaged.
    """
    trained = read_receipts(sweep, job, "train")
    rungs = {x: read_rung(sweep.layout, x)["heats"] for x in set(sweep.stopped.values()) if x}
    for name, rung in sweep.stopped.items():
        if rung and trained[name]["ended_by"] != Ending.FAILED:
            point = sweep.points[name]
            why = rungs[rung][point.kind]["stopped"][point.group]
            trained[name] |= {"ended_by": Ending.STOPPED, "reason": why}
    return trained


def with_model(sweep: Sweep, job: str, points: Sequence[str]) -> list[str]:
    """Return those of some points that have a model: whose training neither failed nor stopped.

    Args:
        sweep: The sweep.
        job: The key of a job that needs their trainings.
        points: Their names.

    Raises:
        UserError: A receipt is missing or damaged.
    """
    trained = read_trained(sweep, job)
    return [x for x in points if x in trained and trained[x]["ended_by"] not in NO_MODEL]


def read_receipts(sweep: Sweep, job: str, step: str) -> Found:
    """Return what a step found of each point, from those of its receipts that a job needs.

    Args:
        sweep: The sweep.
        job: The key of the job.
        step: The step; where the job needs none of it, nothing is found.

    Raises:
        UserError: A receipt is missing or damaged.
    """
    needed = [sweep.jobs[key] for key in sweep.jobs[job].needs]
    found: Found = {}
    for one in needed:
        if one.step == step:
            found |= read_json(one.receipt)
    return found


def gather(tiers: list[Found], point: str) -> dict[str, Any]:
    """Return the findings of all tiers of checks about one point, {check: finding}."""
    findings: dict[str, Any] = {}
    for tier in tiers:
        findings |= tier.get(point, {}).get("checks", {})
    return findings


def intact(path: Path) -> Path:
    """Return a path, once its file is what the sealed file beside it says.

    Raises:
        UserError: The file was damaged or edited.
    """
    check_file(path)
    return path
