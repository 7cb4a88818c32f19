"""What a training reads and is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.plan.commands import Base, Limits, Part
from lora.plan.settings import TrainSettings

# (name of the point, key of its training, settings, line of metrics.jsonl)
Watch = Callable[[str, str, TrainSettings, dict[str, Any]], None]


@dataclass(frozen=True)
class TrainFiles:
    """The files that a training reads.

    Attributes:
        train: Training set of a split; free atoms in it are not trained on.
        valid: Validation set of a split; free atoms in it are left out.
        e0s: e0s.json.
        replay: Labelled structures of the foundation model's own kind, where points replay.
        keep: Structures made around the training set, labelled, where points keep.
    """

    train: str | Path
    valid: str | Path
    e0s: str | Path
    replay: str | Path | None = None
    keep: str | Path | None = None


@dataclass(frozen=True)
class Inputs:
    """What is trained, and on what.

    Attributes:
        points: {folder of the point: its settings}.
        base: The foundation model.
        files: The data.
        work: The folder of the checkpoint.
        limits: With `give_up` points that fail are marked, and the session ends well.
        watch: Called after each epoch of a point, in the first process.
    """

    points: dict[Path, TrainSettings]
    base: Base
    files: TrainFiles
    work: Path
    limits: Limits = Limits()
    watch: Watch | None = None

    @property
    def part(self) -> Part:
        """Return the part of the training that is wanted."""
        return self.limits.part or Part()
