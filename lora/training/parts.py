"""Parts of trainings: in a race a training stops at a rung, and another process may go on.

    train/rungs/1/lora_r4_a8_s1/state.pt      all that the next epoch depends on

A state is a point's own: it knows nothing of those that trained beside it, so that the pack in
which the training goes on can be another.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lora.catalogue.endings import Ending
from lora.errors import UserError
from lora.files.sealed import check_file, read_json
from lora.training.checkpoint import read_checkpoint, write_checkpoint
from lora.training.results import ADAPTER, HISTORY, RESULT
from lora.training.state import TrainingState
from lora.training.trainees import Trainee

log = logging.getLogger(__name__)

STATE = "state.pt"


def made(folders: Iterable[Path], keys: Iterable[str]) -> dict[Path, dict[str, Any]]:
    """Return the results that an earlier run has left of the same parts.

    Args:
        folders: Of the points.
        keys: A digest of what each part is of, and of the code that trains it.
    """
    found = {}
    for out, key in zip(folders, keys, strict=True):
        result = _whole(out)
        if result.get("part") == key and result["ended_by"] != Ending.FAILED:
            log.info("%s has been trained so far before", out.name)
            found[out] = result
    return found


def _whole(out: Path) -> dict[str, Any]:
    """Return the result of a training, whose files are all there as they were written; else {}."""
    try:
        result: dict[str, Any] = read_json(out / RESULT)
        adapter = read_json(out / ADAPTER / "adapter.json")
        for path in (out / HISTORY, out / ADAPTER / "adapter.safetensors"):
            check_file(path)
    except UserError:
        return {}
    there = (out / HISTORY).is_file() and (out / ADAPTER / "adapter.safetensors").is_file()
    left = not result.get("rung") or (out / STATE).is_file()
    return result if adapter and there and left else {}


def leave(folder: Path, i: int, trainee: Trainee, point: TrainingState, key: str) -> None:
    """Write the state of a point.

    Args:
        folder: Of the point.
        i: Its place in the pack.
        trainee: The pack.
        point: Its training.
        key: A digest of what the training is of.
    """
    write_checkpoint(folder / STATE, {"key": key, "state": trainee.own(i, point.state())})


@torch.no_grad()
def begin(folder: Path, i: int, trainee: Trainee, point: TrainingState, key: str) -> None:
    """Go on from the state of a point; where there is none of the same training, it begins.

    Args:
        folder: Where the training stands so far.
        i: Its place in the pack.
        trainee: The pack.
        point: Its training.
        key: A digest of what the training is of.
    """
    device = str(next(iter(point.trained.values())).device)
    found = read_checkpoint(folder / STATE, device)
    if found.get("key") != key:
        log.warning("%s holds no state of this training: it begins again", folder)
        return
    point.load_state(trainee.shared(i, found["state"]))
    log.info("going on after epoch %d of %s", point.epoch, folder)
