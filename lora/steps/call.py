"""Hold what a job of a plan is called with: the sweep, its plan's words, its receipt."""

from collections.abc import Sequence
from dataclasses import dataclass

from lora.data.labels import Keys
from lora.files.sealed import Receipt, read_json
from lora.plan.commands import Base, Run
from lora.plan.job import Job
from lora.plan.sweep import Sweep
from lora.steps.models import at_hand


@dataclass(frozen=True)
class Given:
    """What snakemake gives a job beside its name.

    threads: CPU threads, None for torch's choice
    minutes: after which a training stops with a checkpoint, None for no limit
    attempt: which try it is, from 1; 0 by hand
    """

    threads: int | None = None
    minutes: float | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Call:
    """One job with all that its step needs."""

    sweep: Sweep
    job: Job
    given: Given
    receipt: Receipt

    @property
    def run(self) -> Run:
        """Return threads and receipt."""
        return Run(self.given.threads, self.receipt)

    @property
    def base(self) -> Base:
        """Return the foundation model, as the step `foundation` has kept it."""
        foundation = self.sweep.config.foundation
        return Base(self.sweep.layout.foundation_model, foundation.head, foundation.model)

    @property
    def points(self) -> list[str]:
        """Return the points of the job's bundle, without those whose training failed."""
        return self.sweep.sound(self.job.name)

    def at_hand(self, points: Sequence[str]) -> None:
        """Merge again those of some points whose models were not kept."""
        at_hand(self.sweep, self.base, points, self.given.threads)

    @property
    def chosen(self) -> list[str]:
        """Return the chosen point, once there is one."""
        choice = self.sweep.layout.receipt("choose")
        return [read_json(choice)["point"]] if choice.is_file() else []

    @property
    def keys(self) -> Keys:
        """Return what the user's files call their labels."""
        return Keys.of(self.sweep.config.data.model_dump())
