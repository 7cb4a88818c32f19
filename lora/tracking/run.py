"""Read what the files of a sweep say of a point, in the form that MLflow takes."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora.catalogue.columns import FINAL, FORCE, ROWS
from lora.catalogue.endings import Ending
from lora.files.history import read_history
from lora.files.sealed import check_file, digest, read_json
from lora.plan.layout import Layout
from lora.tracking.names import Metric, epoch_metrics, params_of

# what MLflow logs of a training beside its epochs, {key in train.json: name}
COUNTS = {row.source: row.metric for row in ROWS if row.metric and not row.error}
ERRORS = {row.key: row.metric for row in ROWS if row.error}
FIRST = [FORCE, *(key for key in ERRORS if key != FORCE)]  # plots take what was logged first


@dataclass(frozen=True)
class Run:
    """The content of a run: params, metrics, tags and files of a point.

    key:     of the training, "" where there was none
    content: the digest of all of it
    started: milliseconds
    ended:   milliseconds
    """

    key: str
    params: dict[str, str]
    metrics: list[Metric]
    tags: dict[str, str]
    files: list[Path]
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


def read_run(layout: Layout, point: str, chosen: bool, rung: int = 0) -> Run:
    """Read what the steps wrote about a point.

    Args:
        layout: The paths of the sweep.
        point: Its name.
        chosen: Whether it is the chosen one, whose run gets the report, too.
        rung: The rung of a race at which it was stopped, 0 where it was not.

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
    if not (training.failed or rung):
        metrics += _errors(read_json(layout.errors(point))["sets"], ended)
        metrics += _checks(layout, point, ended)
    metrics += [
        (name, float(result[key]), ended, 0) for key, name in COUNTS.items() if key in result
    ]
    metrics += [metric for line in training.history for metric in epoch_metrics(line)]
    if chosen:
        folders = (layout.table.parent, layout.figures)
        files += sorted(x for folder in folders for x in folder.glob("*") if x.is_file())
    tags = _tags(result) | {"chosen": str(chosen)}
    tags |= {"race": f"stopped at rung {rung}"} if rung else {}
    key = result.get("key", "")
    return Run(key, params, metrics, tags, files, digest(*files), started, ended)


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


def _errors(sets: dict[str, dict[str, Any]], stamp: int) -> list[Metric]:
    """Return the errors of each set, those of the test set first, forces first."""
    found: list[Metric] = []
    for name, values in sorted(sets.items(), key=lambda x: x[0] != "test"):
        folder = FINAL.get(name, name)
        keys = [key for key in FIRST if key in values]
        found += [(f"{folder}/{ERRORS[key]}", values[key], stamp, 0) for key in keys]
    return found


def _checks(layout: Layout, point: str, stamp: int) -> list[Metric]:
    """Return what the checks found, those of the winners included."""
    found: dict[str, Any] = {}
    for path in (layout.checks(point), layout.receipt("thorough")):
        content = read_json(path) if path.is_file() else {}
        found |= content.get(point, content).get("checks", {})
    return [(f"check/{name}", float(x["value"]), stamp, 0) for name, x in found.items()]


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
