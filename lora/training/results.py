"""What trainings leave behind: their epochs, adapters or weights, train.json, and what failed."""

import json
import logging
import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.adapters.inject import Injection, take_adapters
from lora.adapters.pack import Pack
from lora.adapters.saved import save_adapter, save_weights
from lora.adapters.spectra import spectra
from lora.files.sealed import count_up, read_json, write_text
from lora.mace.elements import get_e0s
from lora.mace.fast.convolution import unfuse
from lora.mace.kernels import from_kernel
from lora.plan.settings import TrainSettings
from lora.training.setup import prepare
from lora.training.state import TrainingState
from lora.training.trainees import Single, Trainee

log = logging.getLogger(__name__)


def write_history(out: Path, point: TrainingState) -> None:
    """Write the epochs of a training, a line each."""
    lines = "".join(json.dumps(line) + "\n" for line in point.history)
    write_text(out / "metrics.jsonl", lines)


def made_meanwhile(points: dict[Path, TrainSettings], keys: list[str]) -> list[dict]:
    """The results of all points, if another process has just trained the same; else none."""
    results = []
    for out, key in zip(points, keys, strict=True):
        made = read_json(out / "train.json") if (out / "train.json").is_file() else {}
        if made.get("key") != key or made["ended_by"] == "failed":
            return []
        results.append(made)
    log.info("another process has trained this meanwhile")
    return results


def save_point(
    trainee: Trainee,
    i: int,
    s: TrainSettings,
    base: nn.Module,
    folder: Path,
    tuned: list[str],
    notes: dict,
) -> dict:
    """Write the adapter, or the weights, of a point that was tuned on some elements.

    Returns an adapter's spectra.
    """
    if isinstance(trainee, Pack):
        model = trainee.dissolve(i)
        model.lora_injection = Injection(s.rank, s.alpha, s.scaling, s.targets)
        save_adapter(model, folder, {x: get_e0s(model)[x] for x in tuned}, **notes)
        return spectra(take_adapters(model).items())
    assert isinstance(trainee, Single)
    model = unfuse(trainee.model)
    model = from_kernel(model, "cueq") if s.enable_cueq else model.cpu()
    prepare(model, s)  # a converted model has lost what trains
    save_weights(model, base, folder, {x: get_e0s(model)[x] for x in tuned}, **notes)
    return {}


def result_of(out: Path, point: TrainingState, counted: tuple[int, int]) -> dict:
    trainable, total = counted
    return {
        "point": out.name,
        "settings": asdict(point.settings),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "epochs": point.epoch,
        "ended_by": point.ended(),
        **({"reason": point.reason} if point.reason else {}),
        "best_epoch": point.best_epoch,
        "best": point.history[point.best_epoch],
        "seconds": round(point.seconds, 1),
    }


def peak_memory(device: str) -> int:
    """MB: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated() / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def note_failures(work: Path, results: list[dict[str, Any]]) -> bool:
    """Count up failed.json where points failed, so that the next start of the sweep tries again.

    Returns whether there were any.
    """
    failed = {x["point"]: x["reason"] for x in results if x["ended_by"] == "failed"}
    if failed:
        count_up(work / "failed.json", points=failed)
    return bool(failed)
