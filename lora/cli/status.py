"""`mace-lora status`: where every point of a sweep is, read from its files; it may run elsewhere.

Nothing is asked of a cluster and nothing is written.
"""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lora.catalogue.endings import Ending
from lora.errors import UserError
from lora.files.lock import STALE
from lora.files.sealed import read_json
from lora.tracking.record import read_history

# in the order in which a point goes through them
STATES = ["waiting", "failed", "stopped", "training", "trained", "merged", "evaluated"]


def status(results: str | Path) -> list[dict[str, Any]]:
    """A row a point of a sweep.

    Columns: point, state, epoch, epochs (at most), seconds_left (of its training),
    rmse_e_mev_per_atom and rmse_f_mev_per_a (validation: of the last epoch, of the best once
    trained), and note: why it failed, or that it was stopped and goes on.

    Raises UserError: no sweep has begun there.
    """
    results = Path(results)
    record = results / "train" / "packs.json"
    if not record.is_file():
        raise UserError(f"status: {record} is missing; no sweep has begun there")
    packs, config = read_json(record), results / "config.json"
    settings = read_json(config) if config.is_file() else {}
    return [
        {"point": point} | _state(results, pack, point, settings)
        for pack, members in packs.items()
        for point in members
    ]


def _state(results: Path, pack: str, point: str, config: dict) -> dict[str, Any]:
    folder, work = results / "train" / point, results / "train" / "packs" / pack
    history = read_history(folder / "metrics.jsonl")
    trained = read_json(folder / "train.json") if (folder / "train.json").is_file() else {}
    row: dict[str, Any] = {"epoch": None, "epochs": None, "seconds_left": None, "note": ""}
    if history:
        row |= _progress(history, trained, _epochs(config, point))
    made = [step for step in ("train", "merge", "evaluate") if _receipt(results, step, pack)]
    state, note = "waiting", ""
    if _is_fresh(work / "lock"):
        state = "training"
    elif trained.get("ended_by") == Ending.FAILED:
        state, note = "failed", trained["reason"]
    elif made:
        state = {"train": "trained", "merge": "merged", "evaluate": "evaluated"}[made[-1]]
    elif reason := _failure(results / "logs" / "train" / f"{pack}.log"):
        state, note = "failed", reason
    elif (work / "checkpoint.pt").is_file():
        state, note = "stopped", "goes on when the sweep is started again"
    if state != "training":
        row["seconds_left"] = None
    return row | {"state": state, "note": note}


def _receipt(results: Path, step: str, pack: str) -> bool:
    """Whether a step is done with a pack."""
    return (results / step / "packs" / f"{pack}.json").is_file()


def _progress(history: list[dict], trained: dict, epochs: int | None) -> dict[str, Any]:
    """How far a training is, and its errors."""
    last = history[-1]
    shown = history[trained["best_epoch"]] if trained else last
    left = None
    if epochs and last["epoch"]:
        pace = (last["timestamp"] - history[0]["timestamp"]) / last["epoch"]
        left = max(0.0, pace * (epochs - last["epoch"]) - (time.time() - last["timestamp"]))
    names = ("rmse_e_mev_per_atom", "rmse_f_mev_per_a")
    errors = {name: shown[f"valid_{name}"] for name in names}
    return {"epoch": last["epoch"], "epochs": epochs, "seconds_left": left} | errors


def _epochs(config: dict, point: str) -> int | None:
    """The most epochs that a point trains."""
    common = config.get("train", {}) | config.get("methods", {}).get(point.split("_")[0], {})
    found = common.get("max_num_epochs", 100)
    return int(found) if config else None


def _is_fresh(lock: Path) -> bool:
    """Whether somebody keeps a lock alive."""
    try:
        return time.time() - lock.stat().st_mtime < STALE
    except OSError:
        return False


def _failure(log: Path) -> str:
    """Why a training ended in an error, from the last line of its log; "" if it did not."""
    try:
        last = log.read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return ""
    found = re.match(r"mace-lora train: (.*)|([\w.]*(?:Error|Exception)\b.*)", last)
    if not found or last.endswith("run it again to go on"):
        return ""
    return str(found.group(1) or found.group(2))


def show(results: str | Path, watch: float | None = None) -> None:
    """Print the state of every point; with `watch` again every so many seconds, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not watch:
        console.print(_table(status(results)))
        return
    try:
        with Live(_table(status(results)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(watch)
                live.update(_table(status(results)), refresh=True)
    except KeyboardInterrupt:
        pass


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    counts = Counter(row["state"] for row in rows)
    title = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("point", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("epoch", "left", "E meV/atom", "F meV/Å"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(
            *(row["point"], row["state"], _of(row["epoch"], row["epochs"])),
            *(as_time(row["seconds_left"]), _number(row, "rmse_e_mev_per_atom", 2)),
            *(_number(row, "rmse_f_mev_per_a", 1), row["note"]),
        )
    return table


def _of(epoch: int | None, epochs: int | None) -> str:
    return "" if epoch is None else f"{epoch}/{epochs}" if epochs else str(epoch)


def _number(row: dict[str, Any], key: str, digits: int) -> str:
    return f"{row[key]:.{digits}f}" if row.get(key) is not None else ""


def as_time(seconds: float | None) -> str:
    """90 -> "1:30", 7200 -> "2:00:00"."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
