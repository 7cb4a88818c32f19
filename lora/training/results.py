"""What trainings leave behind: their epochs, train.json, and a count of what failed."""

import json
import logging
import resource
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lora.catalogue.endings import Ending
from lora.files.sealed import count_up, read_json, write_sealed, write_text
from lora.training.course import Course

log = logging.getLogger(__name__)

ADAPTER = "adapter"  # the folder of adapter or weights within that of a point
HISTORY = "metrics.jsonl"
RESULT = "train.json"


def write_history(out: Path, point: Course) -> None:
    """Write the epochs of a training, a line each."""
    lines = "".join(json.dumps(line) + "\n" for line in point.history)
    write_text(out / HISTORY, lines)


def write_result(out: Path, point: Course, shared: dict[str, Any]) -> dict[str, Any]:
    """Write metrics.jsonl and train.json of a point whose adapter is there, or that has failed.

    A failed point has no model, so an adapter that an earlier training left there is deleted.

    Args:
        out: The folder of the point.
        point: Its course; with one epoch at least, unless it has failed.
        shared: What else train.json says.

    Returns:
        The contents of train.json.
    """
    write_history(out, point)  # again, for a kill after the last checkpoint
    if point.failed:
        shutil.rmtree(out / ADAPTER, ignore_errors=True)
    result: dict[str, Any] = {
        "point": out.name,
        "settings": asdict(point.settings),
        "epochs": max(0, point.epoch),
        "ended_by": point.ended() or Ending.STOPPED,
        **({"reason": point.reason} if point.reason else {}),
        **_best(point),
        "seconds": round(point.seconds, 1),
        **shared,
    }
    write_sealed(out / RESULT, result, [out / HISTORY])
    return result


def _best(point: Course) -> dict[str, Any]:
    """Return which epoch was the best, and what it measured; {} where none came to its end."""
    if not point.history:
        return {}
    return {"best_epoch": point.best_epoch, "best": point.history[point.best_epoch]}


def results_of(folders: Iterable[Path], keys: list[str]) -> list[dict[str, Any]]:
    """Return the results of all points, if another process has just trained the same; else [].

    Args:
        folders: Of the points.
        keys: A digest of what each training is of.
    """
    results = []
    for out, key in zip(folders, keys, strict=True):
        result = read_json(out / RESULT) if (out / RESULT).is_file() else {}
        if result.get("key") != key or result["ended_by"] == Ending.FAILED:
            return []
        results.append(result)
    log.info("another process has trained this meanwhile")
    return results


def peak_memory(device: str) -> int:
    """Return the most memory used so far, in MB: of the GPU, or of this process on a CPU."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def note_failures(work: Path, results: list[dict[str, Any]]) -> bool:
    """Count up failed.json where points failed, so that the next start of the sweep tries again.

    Return True if there were any.
    """
    reasons = {x["point"]: x["reason"] for x in results if x["ended_by"] == Ending.FAILED}
    if reasons:
        count_up(work / "failed.json", points=reasons)
    return bool(reasons)
