"""Name how a training can end, and which points of a pack did not fail."""

from enum import StrEnum
from pathlib import Path

from lora.files.sealed import read_json


class Ending(StrEnum):
    """How a training ended; the values stand in train.json, sweep.csv and MLflow."""

    MAX_NUM_EPOCHS = "max_num_epochs"
    PATIENCE = "patience"
    DIVERGED = "diverged"
    FAILED = "failed"  # a crash, or no room in memory: there is no model of such a point


def finished(receipt: str | Path) -> list[str]:
    """Return the points of a pack that have a model, in the order of the pack.

    Later steps merge, evaluate and check these alone; the table has the others as failed.

    Args:
        receipt: The receipt of the pack's training, {point: contents of its train.json}.

    Raises:
        UserError: The receipt is missing or damaged.
    """
    return [
        point for point, result in read_json(receipt).items() if result["ended_by"] != Ending.FAILED
    ]
