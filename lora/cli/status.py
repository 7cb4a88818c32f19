"""`mace-lora status`: show where every point of a sweep is, from its files; it may run elsewhere.

Nothing is asked of a cluster and nothing is written.
"""

import itertools
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lora.catalogue.columns import ENERGY, FORCE
from lora.catalogue.endings import Ending
from lora.cli.failure import failure
from lora.cli.stages import as_of, read_sweep, table_of_point, table_of_steps
from lora.files.clock import file_time
from lora.files.history import read_history
from lora.files.lock import is_held
from lora.files.sealed import read_json
from lora.plan.job import key_of
from lora.plan.layout import Layout
from lora.plan.packs import Pack
from lora.plan.points import Point
from lora.plan.queue import Queue
from lora.plan.sweep import Sweep

# in the order in which a point goes through them
STATES = ["waiting", "failed", "stopped", "out", "training", "trained", "merged", "evaluated"]
DONE = {"train": "trained", "merge": "merged", "evaluate": "evaluated"}
NUMBERS = ("epoch", "left", "E meV/atom", "F meV/Å")
JUDGING = ("merge", "evaluate", "check")


def status(results: str | Path) -> list[dict[str, Any]]:
    """Return a row a point of a sweep.

    Args:
        results: The results folder.

    Returns:
        point, state, epoch, epochs (at most), seconds_left (of its training), rmse_e_mev_per_atom
        and rmse_f_mev_per_a (validation: of the last epoch, of the best once trained), pack,
        queue (how its job stands on a cluster), and note: why it failed, that it was stopped and
        goes on, or why its job waits in a queue for a reason that does not pass.

    Raises:
        UserError: No sweep has begun there.
    """
    return _rows(read_sweep(results))


def _rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return what `status` does, of a sweep that is read."""
    queue, now = Queue.read(sweep.layout), file_time(sweep.layout.results)
    last = {point.name: (pack, point) for pack in sweep.packs.values() for point in pack.points}
    rows = [{"point": name} | _state(sweep.layout, *x, queue, now) for name, x in last.items()]
    stopped = {x: rung for x, rung in sweep.stopped.items() if rung}
    for row in rows:
        if row["point"] in stopped and row["state"] not in ("failed", "training"):
            row |= {"state": "out", "note": f"stopped at rung {stopped[row['point']]} of the race"}
    return rows


def _state(layout: Layout, pack: Pack, point: Point, queue: Queue, now: float) -> dict[str, Any]:
    """Return what the files say of a point in a pack: of a race, of the last it has come to."""
    rung = pack.leg.number if pack.leg and pack.leg.until is not None else 0
    folder, work = layout.training(point.name, rung), layout.work(pack.name)
    history = read_history(folder / "metrics.jsonl")
    result = read_json(folder / "train.json") if (folder / "train.json").is_file() else {}
    row: dict[str, Any] = {"epoch": None, "epochs": None, "seconds_left": None, "note": ""}
    if history:
        epochs = point.settings.max_num_epochs if point.settings else None
        since = now - (folder / "metrics.jsonl").stat().st_mtime
        row |= _progress(history, result, epochs, since)
    made = [state for step, state in DONE.items() if _is_done(layout, pack, step)]
    state, note = "waiting", ""
    if is_held(work / "lock", now) and not _waits(queue, pack, work / "lock"):
        state = "training"
    elif result.get("ended_by") == Ending.FAILED:
        state, note = "failed", result["reason"]
    elif made:
        state = made[-1]
    elif reason := failure(layout.log("train", pack.name)):
        state, note = "failed", reason
    elif (work / "checkpoint.pt").is_file():
        state, note = "stopped", "goes on when the sweep is started again"
    given = queue.last([key_of("train", pack.name), *(key_of(x, pack.bundle) for x in JUDGING)])
    if given and given.goes_on:
        note = "" if state == "stopped" else note
        note = given.note if state not in ("failed", "training") and given.note else note
    row |= {"pack": pack.name, "queue": str(given) if given and given.goes_on else ""}
    if state != "training":
        row["seconds_left"] = None
    return row | {"state": state, "note": note}


def _waits(queue: Queue, pack: Pack, lock: Path) -> bool:
    """Return True where a training waited in the queue after its lock was last kept alive."""
    given = queue.last([key_of("train", pack.name)])
    if not (given and given.state == "PENDING" and queue.is_known):
        return False
    try:
        return lock.stat().st_mtime < queue.at
    except FileNotFoundError:  # just now
        return True


def _is_done(layout: Layout, pack: Pack, step: str) -> bool:
    name = pack.name if step == "train" else pack.bundle
    return bool(name) and layout.receipt(step, name).is_file()


def _progress(
    history: list[dict[str, Any]], result: dict[str, Any], epochs: int | None, since: float
) -> dict[str, Any]:
    """Return how far a training is, and its errors: of the best epoch, once that is known.

    `since` are the seconds since the last epoch.
    """
    last = history[-1]
    best = result.get("best_epoch", len(history))  # of the training before, while one runs anew
    shown = history[best] if best < len(history) else last
    left = None
    if epochs and last["epoch"]:
        left = max(0.0, _pace(history) * (epochs - last["epoch"]) - since)
    errors = {name: shown[f"valid_{name}"] for name in (ENERGY, FORCE)}
    return {"epoch": last["epoch"], "epochs": epochs, "seconds_left": left} | errors


def _pace(history: list[dict[str, Any]]) -> float:
    """Return the seconds from one epoch to the next, without the time in which nothing trained.

    The median: after a kill and a start, one epoch seems to have taken all the time between.
    """
    ends = [line["timestamp"] for line in history]
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def show(results: str | Path, point: str | None = None, watch: float | None = None) -> None:
    """Print the state of every point and step; with `watch` again every so many seconds.

    Args:
        results: The results folder.
        point: Of one point the jobs and where their logs are.
        watch: Seconds; Ctrl-C ends it.

    Raises:
        UserError: No sweep has begun there, or it has no such point.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not watch:
        console.print(_page(results, point), crop=False)  # paths are whole, to be copied
        return
    try:
        with Live(_page(results, point), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(watch)
                live.update(_page(results, point), refresh=True)
    except KeyboardInterrupt:
        pass


def _page(results: str | Path, point: str | None) -> Any:
    from rich.console import Group

    sweep = read_sweep(results)
    if point:
        parts = [table_of_point(sweep, point)]
    else:
        parts = [_table(_rows(sweep)), table_of_steps(sweep)]
    return Group(*parts, as_of(Queue.read(sweep.layout)))


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    counts = Counter(row["state"] for row in rows)
    title = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown = {
        "point": [row["point"] for row in rows],
        "state": [row["state"] for row in rows],
        "epoch": [_of(row["epoch"], row["epochs"]) for row in rows],
        "left": [as_time(row["seconds_left"]) for row in rows],
        "E meV/atom": [_number(row, ENERGY, 2) for row in rows],
        "F meV/Å": [_number(row, FORCE, 1) for row in rows],
        "pack": [row["pack"] for row in rows],
        "queue": [row["queue"] for row in rows],
        "": [row["note"] for row in rows],
    }
    shown = {name: cells for name, cells in shown.items() if any(cells)}
    for name in shown:
        justify: Any = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=name not in ("queue", ""))
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    return table


def _of(epoch: int | None, epochs: int | None) -> str:
    return "" if epoch is None else f"{epoch}/{epochs}" if epochs else str(epoch)


def _number(row: dict[str, Any], key: str, digits: int) -> str:
    return f"{row[key]:.{digits}f}" if row.get(key) is not None else ""


def as_time(seconds: float | None) -> str:
    """Return seconds as hours, minutes and seconds: 90 is "1:30", 7200 is "2:00:00"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
