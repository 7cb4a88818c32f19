"""Hold what commands give to several steps: the foundation model, threads, a receipt, limits."""

from dataclasses import dataclass, field
from pathlib import Path

from lora.files.sealed import Receipt

MOST_CHOSEN = 20  # frames to label that `select` chooses, where the user names no number


@dataclass(frozen=True)
class Base:
    """The foundation model that a step works on.

    Attributes:
        model: A .model file, or a name that MACE knows.
        head: Which head, None where the model has one.
        name: What the user calls it; None means the same.
        under: Where `model` is an adapter, the foundation model that it was trained on; None
            means the one that is found by the adapter.
    """

    model: str | Path
    head: str | None = None
    name: str | None = None
    under: str | Path | None = None

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
class Part:
    """A part of a training: in a race, from one rung to the next.

    Attributes:
        rung: The rung at which it stops, from 1; 0 for the end.
        until: The epoch of the rung, None for the end.
        begun: {folder of the point: the folder in which its training stands so far}; a point
            without one begins.
        code: What trains: results of another are not taken.
        take: Take what an earlier run has left of this part, where it is of the same.
        cut: {folder of the point: the folder of the adapter that its start is cut from}; a point
            without one has a start of its own.
    """

    rung: int = 0
    until: int | None = None
    begun: dict[Path, Path] = field(default_factory=dict)
    code: str = ""
    take: bool = False
    cut: dict[Path, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """When a training ends before it is done.

    Attributes:
        minutes: After how many it stops with a checkpoint, None for no limit.
        give_up: True at the last try, at which points that fail are marked and left behind.
        part: The part of the training that is wanted, None for all of it.
    """

    minutes: float | None = None
    give_up: bool = False
    part: Part | None = None
