"""Hold what commands give to several steps: the foundation model, threads, a receipt, limits."""

from dataclasses import dataclass
from pathlib import Path

from lora.files.sealed import Receipt


@dataclass(frozen=True)
class Base:
    """The foundation model that a step works on.

    Attributes:
        model: A .model file, or a name that MACE knows.
        head: Which head, None where the model has one.
        name: What the user calls it; None means the same.
    """

    model: str | Path
    head: str | None = None
    name: str | None = None

    @property
    def called(self) -> str:
        """Return what cards call it."""
        return self.name or str(self.model)


@dataclass(frozen=True)
class Run:
    """How a step is run.

    Attributes:
        threads: CPU threads, None for torch's choice.
        receipt: Where the step says what it has made, None for a step that is run by hand.
    """

    threads: int | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Limits:
    """When a training ends before it is done.

    Attributes:
        minutes: After how many it stops with a checkpoint, None for no limit.
        give_up: True at the last try, at which points that fail are marked and left behind.
    """

    minutes: float | None = None
    give_up: bool = False
