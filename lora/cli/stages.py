"""What the steps of a sweep are at, and the jobs of one point: `mace-lora status`, from files."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora.cli.failure import failure
from lora.errors import UserError
from lora.plan.job import Job
from lora.plan.queue import Queue, Submission
from lora.plan.submission import points_of
from lora.plan.sweep import Sweep
from lora.plan.words import few

JOB_STATES = ["done", "failed", "running", "pending", "begun", "waiting"]


def steps(sweep: Sweep) -> list[dict[str, Any]]:
    """Return a row a step that a sweep asks for, in their order.

    Args:
        sweep: The sweep.

    Returns:
        step, done and jobs (how many are done, of how many), states (the others, counted) and note:
        why the first that failed did, or why one waits for ever.
    """
    queue, rows = Queue.read(sweep.layout), []
    by_step: dict[str, list[Job]] = {}
    for job in _wanted(sweep):
        by_step.setdefault(job.step, []).append(job)
    for step, jobs in by_step.items():
        found = [_state(sweep, job, queue) for job in jobs]
        counts = Counter(state for state, _ in found)
        notes = [f"{job.key}: {x}" for job, (_, x) in zip(jobs, found, strict=True) if x]
        rows.append(
            {
                "step": step,
                "done": counts.pop("done", 0),
                "jobs": len(jobs),
                "states": ", ".join(f"{counts[x]} {x}" for x in JOB_STATES if counts[x]),
                "note": notes[0] if notes else "",
            }
        )
    return rows


def of_point(sweep: Sweep, point: str) -> list[dict[str, Any]]:
    """Return a row a job of a point, in their order, with its logs.

    Args:
        sweep: The sweep.
        point: One of its points.

    Returns:
        job, state, queue (how it stands on a cluster), log (of the step, where there is one),
        cluster_log (what the cluster said about the last try) and note.

    Raises:
        UserError: There is no such point.
    """
    if point not in sweep.points:
        raise UserError(
            f"status: {sweep.layout.plan} has no point {point}; it has {few(sweep.points)}"
        )
    queue, rows = Queue.read(sweep.layout), []
    for job in sweep.jobs.values():
        if point in points_of(sweep, job):
            state, note = _state(sweep, job, queue)
            given = queue.last([job.key])
            log = sweep.layout.log(job.step, job.name)
            row = {"job": job.key, "state": state, "queue": str(given or "")}
            row |= {"log": str(log) if log.is_file() else ""}
            rows.append(row | {"cluster_log": given.log if given else "", "note": note})
    return rows


def _wanted(sweep: Sweep) -> list[Job]:
    """Return the jobs that lead to what a whole sweep ends with."""
    ends = {*sweep.targets()}
    todo = [key for key, job in sweep.jobs.items() if str(job.receipt) in ends]
    found: set[str] = set()
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += [*sweep.jobs[key].needs, *sweep.jobs[key].after]
    return [job for key, job in sweep.jobs.items() if key in found]


def _state(sweep: Sweep, job: Job, queue: Queue) -> tuple[str, str]:
    """Return the state of a job, and why it failed or waits for ever."""
    given, log = queue.last([job.key]), sweep.layout.log(job.step, job.name)
    if job.receipt.is_file():
        return "done", ""
    if given and given.goes_on:
        return _in_queue(given), given.note
    if why := failure(log):
        return "failed", why
    return ("begun" if log.is_file() else "waiting"), ""


def _in_queue(given: Submission) -> str:
    return "pending" if given.state == "PENDING" else "running"


def as_of(queue: Queue) -> str:
    """Return from when the states of a queue are, "" where nothing is in it."""
    if not any(x.goes_on for x in queue.jobs.values()):
        return ""
    when = time.strftime("%H:%M:%S", time.localtime(queue.at))
    if queue.is_known:
        return f"the queue as of {when}"
    day = time.strftime("%Y-%m-%d", time.localtime(queue.at))
    return f"the queue as of {day} {when}; no snakemake has looked since, jobs may still run"


def table(rows: Iterable[dict[str, Any]], names: dict[str, str]) -> Any:
    """Return a table of rows for a terminal.

    Args:
        rows: Of the table.
        names: {column: what stands above it}; what is empty in all rows is left out.
    """
    from rich.table import Table

    rows = list(rows)
    shown = {key: head for key, head in names.items() if any(row[key] for row in rows)}
    made = Table(box=None, pad_edge=False)
    for head in shown.values():
        made.add_column(head, overflow="fold")
    for row in rows:
        made.add_row(*(str(row[key]) for key in shown))
    return made


def table_of_steps(sweep: Sweep) -> Any:
    """Return what every step is at, for a terminal.

    Args:
        sweep: The sweep.
    """
    rows = [row | {"of": f"{row['done']}/{row['jobs']}"} for row in steps(sweep)]
    return table(rows, {"step": "step", "of": "done", "states": "", "note": ""})


def table_of_point(sweep: Sweep, point: str) -> Any:
    """Return the jobs of a point and where their logs are, for a terminal.

    Args:
        sweep: The sweep.
        point: One of its points.
    """
    from rich.console import Group
    from rich.text import Text

    rows = of_point(sweep, point)
    logs = dict.fromkeys(x for row in rows for x in (row["log"], row["cluster_log"]) if x)
    names = {"job": "job", "state": "state", "queue": "queue", "note": ""}
    lines = [Text(x, no_wrap=True, overflow="ignore") for x in logs]
    return Group(table(rows, names), "logs:" if logs else "no logs yet", *lines)


def read_sweep(results: str | Path) -> Sweep:
    """Return the sweep of a results folder.

    Args:
        results: The folder.

    Raises:
        UserError: No sweep has begun there.
    """
    from lora.plan.layout import Layout

    plan = Layout(Path(results)).plan
    if not plan.is_file():
        raise UserError(f"status: {plan} is missing; no sweep has begun there")
    return Sweep.load(plan)
