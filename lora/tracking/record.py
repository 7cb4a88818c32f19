"""What the files of a sweep say of a point, in the form that MLflow takes."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora.catalogue.endings import Ending
from lora.files.sealed import check_file, digest, read_json
from lora.tracking.names import epoch_metrics, params_of

FIRST = ("rmse_f_mev_per_a", "rmse_e_mev_per_atom")  # the UI's plots take what was logged first
COUNTS = ("trainable_parameters", "total_parameters", "seconds", "peak_memory_mb")
SETS = {"valid": "val_final"}  # what a set is called there, where not by its name


@dataclass
class Record:
    """A point: params, metrics (name, value, milliseconds, epoch), tags.

    key:     of the training, "" where there was none
    content: a digest of all of it
    started, ended: milliseconds
    """

    key: str
    params: dict[str, str]
    metrics: list[tuple[str, float, int, int]]
    tags: dict[str, str]
    files: list[Path]
    content: str
    started: int
    ended: int


def read_record(results: Path, point: str, chosen: bool) -> Record:
    """Read what the steps wrote about a point; of the chosen one figures and model, too."""
    evaluated = results / "evaluate" / f"{point}.json"
    trained: dict[str, Any] = {}
    history: list[dict] = []
    if (results / "train" / point / "train.json").is_file():
        trained = read_json(results / "train" / point / "train.json")
        check_file(epochs := results / "train" / point / "metrics.jsonl")
        history = read_history(epochs)
        ended = int(1000 * history[-1]["timestamp"])
        started = ended - int(1000 * trained["seconds"])
    else:  # the foundation model
        started = ended = int(1000 * evaluated.stat().st_mtime)
    params = params_of(trained.get("settings", {"method": "foundation"}))
    prints = {
        "provenance/base": trained.get("base_fingerprint"),
        "provenance/data": trained.get("data_digest"),
    }
    params |= {k: v for k, v in prints.items() if v}
    failed = trained.get("ended_by") == Ending.FAILED  # later steps leave such a point out
    metrics = [] if failed else _errors(read_json(evaluated)["sets"], ended)
    checked = {} if failed else _checks(results, point)
    metrics += [(f"check/{name}", float(x["value"]), ended, 0) for name, x in checked.items()]
    metrics += [(key, float(trained[key]), ended, 0) for key in COUNTS if key in trained]
    metrics += [metric for line in history for metric in epoch_metrics(line)]
    tags = {f"machine/{k}": str(v) for k, v in trained.get("machine", {}).items() if v}
    if tags.get("machine/commit"):
        tags["mlflow.source.git.commit"] = tags.pop("machine/commit")
    tags["chosen"] = str(chosen)
    tags |= {trained["ended_by"]: trained["reason"]} if "reason" in trained else {}
    files = _files(results, point, failed)
    if chosen:
        files += sorted(x for x in (results / "report").glob("*") if x.is_file())
    return Record(
        trained.get("key", ""),
        params,
        metrics,
        tags,
        files,
        digest(*files),
        started,
        ended,
    )


def read_history(path: Path) -> list[dict[str, Any]]:
    """The epochs of a training, a line each; [] where there is no file yet."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


@cache
def datasets(results: Path) -> list[dict[str, str]]:
    """The sets of the split: context, name, digest and where they lie."""
    found = []
    for context, name in {"training": "train", "validation": "valid", "testing": "test"}.items():
        path = results / "data" / f"{name}.xyz"
        if path.is_file():
            own = {"context": context, "name": path.name, "digest": digest(path)}
            found.append(own | {"source": str(path.resolve())})
    return found


def _errors(sets: dict[str, dict], stamp: int) -> list[tuple[str, float, int, int]]:
    """Errors of each set as metrics, those of the test set first, forces first."""
    found = []
    for name, values in sorted(sets.items(), key=lambda x: x[0] != "test"):
        numbers = {k: v for k, v in values.items() if isinstance(v, float)}
        for key in sorted(numbers, key=lambda k: FIRST.index(k) if k in FIRST else len(FIRST)):
            found.append((f"{SETS.get(name, name)}/{key}", numbers[key], stamp, 0))
    return found


def _checks(results: Path, point: str) -> dict[str, dict]:
    """What the checks found, those of the winners included."""
    found: dict[str, dict] = {}
    for path in (results / "check" / f"{point}.json", results / "check/thorough/receipt.json"):
        content = read_json(path) if path.is_file() else {}
        found |= content.get(point, content).get("checks", {})
    return found


def _files(results: Path, point: str, failed: bool) -> list[Path]:
    """What a run is made of, in a fixed order; of a point that failed, of its training alone."""
    trained = results / "train" / point
    later = [
        results / "evaluate" / f"{point}.json",
        results / "check" / f"{point}.json",
        results / "merge" / point / "merge.json",
    ]
    candidates = [
        *([] if failed else later),  # an earlier training may have left some
        trained / "train.json",
        trained / "metrics.jsonl",
        trained / "adapter" / "adapter.json",
        trained / "adapter" / "adapter.safetensors",
    ]
    return [path for path in candidates if path.is_file()]
