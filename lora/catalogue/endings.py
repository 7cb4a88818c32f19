"""How a training can end; the values stand in train.json, sweep.csv and MLflow."""

from enum import StrEnum


class Ending(StrEnum):
    """How a training ended."""

    MAX_NUM_EPOCHS = "max_num_epochs"
    PATIENCE = "patience"
    DIVERGED = "diverged"  # its best epoch is kept
    STOPPED = "stopped"  # at a rung of a race; where it went on, the next part says how it ended
    FAILED = "failed"  # a crash, or no room in memory: there is no model of such a point


NO_MODEL = (Ending.FAILED, Ending.STOPPED)  # such a point is neither merged nor evaluated
