"""The course of one training: its epochs, the best of them, and how it ended; no weights."""

import logging
from typing import Any

from lora.catalogue.endings import Ending
from lora.plan.settings import TrainSettings

log = logging.getLogger(__name__)


class Course:
    """How far one training is, in plain values.

    Attributes:
        settings: Resolved settings of the training.
        history: One dict for each epoch, epoch 0 before any training; what metrics.jsonl holds.
        best_epoch: The epoch with the lowest validation loss.
        reason: Why it diverged or failed, "" if it did neither.
        seconds: The wall time of its epochs, its share where points train together.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.history: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.diverged = self.failed = False
        self.reason = ""
        self.seconds = 0.0

    @classmethod
    def of(cls, settings: TrainSettings, state: dict[str, Any]) -> "Course":
        """Return the course of a training as a checkpoint has it."""
        course = Course(settings)
        course.load_course(state)
        return course

    @property
    def epoch(self) -> int:
        """Return the last finished epoch; -1 before the first validation."""
        return len(self.history) - 1

    def ended(self) -> Ending | None:
        """Return how the training ended, None if it goes on."""
        if self.failed:
            return Ending.FAILED
        if self.diverged:
            return Ending.DIVERGED
        if self.epoch >= self.settings.max_num_epochs:
            return Ending.MAX_NUM_EPOCHS
        waited = self.epoch - self.best_epoch
        return Ending.PATIENCE if waited >= self.settings.patience else None

    def rests(self, until: int | None) -> bool:
        """Return True where the training has ended, or has come to an epoch at which it stops.

        Args:
            until: The epoch, None for its end.
        """
        return bool(self.ended()) or (until is not None and self.epoch >= until)

    def fail(self, why: str) -> None:
        """End the training for a reason that is not its own."""
        self.failed, self.reason = True, why
        log.warning("the training fails: %s; its best epoch so far is %d", why, self.best_epoch)

    def course(self) -> dict[str, Any]:
        """Return all of it but the settings, for a checkpoint."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "diverged": self.diverged,
            "reason": self.reason,
            "seconds": self.seconds,
        }

    def load_course(self, state: dict[str, Any]) -> None:
        """Go on from what `course` returned."""
        self.history, self.best_epoch = state["history"], state["best_epoch"]
        self.diverged, self.reason = state["diverged"], state.get("reason", "")
        self.seconds = state["seconds"]
