"""How a training can end; the values stand in train.json, sweep.csv and MLflow."""

from enum import StrEnum


class Ending(StrEnum):
    """How a training ended."""

    MAX_NUM_EPOCHS = "max_num_epochs"
    PATIENCE = "patience"
    DIVERGED = "diverged"  # its best epoch is kept
    FAILED = "failed"  # a crash, or no room in memory: there is no model of such a point
