"""Read what the files of a sweep say of a point, in the form that MLflow takes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lora.catalogue.columns import FORCE, ROWS, VALID
from lora.catalogue.endings import Ending
from lora.files.history import read_history
from lora.files.sealed import check_file, digest, read_json
from lora.plan.layout import Layout
from lora.plan.points import FOUNDATION
from lora.tracking.names import Metric, epoch_metrics, params_of, short

# what MLflow logs of a training beside its epochs, {key in train.json: name}
COUNTS = {row.source: row.metric for row in ROWS if row.metric and not row.error}
FAILED = "checks_failed"
ERRORS = {row.key: row.metric for row in ROWS if row.error}
FIRST = [FORCE, *(key for key in ERRORS if key != FORCE)]  # plots take what was logged first


@dataclass(frozen=True)
class Judged:
    """What the choice says of a point.

    compared: {check: the number that is held against its limit}
    failed:   the checks whose limit it does not keep, in words
    """

    compared: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """The content of a run: params, metrics, tags and files of a point.

    key:     of the training, "" where there was none
    sets:    {set: {error: value}} of its evaluation; {} where there was none
    failed:  the checks whose limits it does not keep, in words
    content: the digest of all of it
    started: milliseconds
    ended:   milliseconds
    """

    key: str
    params: dict[str, str]
    metrics: list[Metric]
    tags: dict[str, str]
    files: list[Path]
    sets: dict[str, dict[str, Any]]
    failed: tuple[str, ...]
    content: str
    started: int
    ended: int


@dataclass(frozen=True)
class _Training:
    """What a training left: the contents of train.json and its epochs; of none, nothing."""

    result: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def failed(self) -> bool:
        return self.result.get("ended_by") == Ending.FAILED

    def times(self, files: list[Path]) -> tuple[int, int]:
        """Return start and end in milliseconds; without epochs, that of the newest file twice."""
        if not self.history:
            ended = int(1000 * max((path.stat().st_mtime for path in files), default=0.0))
            return ended, ended
        ended = int(1000 * self.history[-1]["timestamp"])
        return ended - int(1000 * self.result["seconds"]), ended


def read_run(
    layout: Layout, point: str, chosen: bool, rung: int = 0, judged: Judged = Judged()
) -> Run:
    """Read what the steps wrote about a point.

    Args:
        layout: The paths of the sweep.
        point: Its name.
        chosen: Whether it is the chosen one, whose run gets the report, too.
        rung: The rung of a race at which it was stopped, 0 where it was not.
        judged: What the choice says of it.

    Raises:
        UserError: A file is missing, damaged or edited.
    """
    folder = layout.training(point, rung)
    training = _read_training(folder)
    result, files = training.result, _files(layout, point, folder)
    started, ended = training.times(files[:1])
    prints = {
        "provenance/base": result.get("base_fingerprint"),
        "provenance/data": result.get("data_digest"),
    }
    params = params_of(result.get("settings", {"method": "foundation"}))
    params |= {k: v for k, v in prints.items() if v}
    metrics: list[Metric] = []
    sets: dict[str, dict[str, Any]] = {}
    if not (training.failed or rung):
        sets = read_json(layout.errors(point))["sets"]
        last = training.history[-1]["epoch"] if training.history else 0
        metrics += _errors(sets, ended, last)
        metrics += _checks(layout, point, ended, judged)
    metrics += [
        (name, short(result[key]), ended, 0) for key, name in COUNTS.items() if key in result
    ]
    metrics += [metric for line in training.history for metric in epoch_metrics(line)]
    if chosen:
        folders = (layout.table.parent, layout.figures)
        files += sorted(x for folder in folders for x in folder.glob("[!.]*") if x.is_file())
    tags = _tags(result) | {"chosen": str(chosen)}
    tags |= {"race": f"stopped at rung {rung}"} if rung else {}
    said = json.dumps([params, metrics, tags, judged.failed, digest(*files)], sort_keys=True)
    content = hashlib.sha256(said.encode()).hexdigest()[:16]
    key = result.get("key", "")
    return Run(key, params, metrics, tags, files, sets, judged.failed, content, started, ended)


def _read_training(folder: Path) -> _Training:
    if not (folder / "train.json").is_file():
        return _Training({}, [])
    result = read_json(folder / "train.json")
    check_file(epochs := folder / "metrics.jsonl")
    return _Training(result, read_history(epochs))


@cache
def datasets(results: Path) -> list[dict[str, str]]:
    """Return the sets of the split: context, name, digest and source."""
    layout, found = Layout(results), []
    for context, name in {"training": "train", "validation": "valid", "testing": "test"}.items():
        path = layout.split(name)
        if path.is_file():
            entry = {"context": context, "name": path.name, "digest": digest(path)}
            found.append(entry | {"source": str(path.relative_to(results))})
    return found


def _tags(result: dict[str, Any]) -> dict[str, str]:
    """Return the machine, the commit and how the training ended, where that needs a reason."""
    tags = {f"machine/{k}": str(v) for k, v in result.get("machine", {}).items() if v}
    if tags.get("machine/commit"):
        tags["mlflow.source.git.commit"] = tags.pop("machine/commit")
    return tags | ({result["ended_by"]: result["reason"]} if "reason" in result else {})


def _errors(sets: dict[str, dict[str, Any]], stamp: int, last: int) -> list[Metric]:
    """Return the errors of each set, those of the validation set first, forces first.

    On the validation set they end the curves of the training, whose last epoch is `last`: a
    millisecond after it, so that they are what MLflow shows where it shows one number.
    """
    found: list[Metric] = []
    for name, values in sorted(sets.items(), key=lambda x: x[0] != VALID):
        when, step = (stamp + 1, last) if name == VALID else (stamp, 0)
        keys = [key for key in FIRST if key in values]
        found += [(f"{name}/{ERRORS[key]}", short(values[key]), when, step) for key in keys]
    return found


def _checks(layout: Layout, point: str, stamp: int, judged: Judged) -> list[Metric]:
    """Return what the checks found, those of the winners included, and how many limits it broke.

    A check whose limit is relative to the foundation model stands there as it is compared; without
    that number it has no place in a column of the others.
    """
    found: dict[str, Any] = {}
    for path in (layout.checks(point), layout.receipt("thorough")):
        content = read_json(path) if path.is_file() else {}
        found |= content.get(point, content).get("checks", {})
    own = {"ratio": 1.0, "excess": 0.0} if point == FOUNDATION.name else {}
    numbers = {
        name: float(x["value"]) if x["compare"] == "absolute" else own.get(x["compare"])
        for name, x in found.items()
    } | dict(judged.compared)
    metrics = [(f"check/{k}", short(v), stamp, 0) for k, v in numbers.items() if v is not None]
    failed = [(FAILED, float(len(judged.failed)), stamp, 0)] if judged.compared else []
    return metrics + failed


def _files(layout: Layout, point: str, folder: Path) -> list[Path]:
    """Return what a run is made of, in a fixed order."""
    candidates = [
        layout.errors(point),
        layout.checks(point),
        layout.model(point).with_name("merge.json"),
        folder / "train.json",
        folder / "metrics.jsonl",
        folder / "adapter" / "adapter.json",
        folder / "adapter" / "adapter.safetensors",
    ]
    return [path for path in candidates if path.is_file()]
