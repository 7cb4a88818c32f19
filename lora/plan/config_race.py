"""The section `race` of the config: how settings race, and how many of them go on."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from lora.catalogue.bounds import POSITIVE, Bounds
from lora.catalogue.checks import NAMES
from lora.catalogue.methods import plain_start
from lora.plan.sections import Section
from lora.plan.settings import TrainSettings
from lora.plan.values import As, NotNegative, integer, kind_of, number, one_of, said, tuple_of
from lora.plan.words import shown

LEAST = 2  # settings that go on until all seeds have run
SHARE = number(Bounds(gt=0, lt=1))
MORE = 2  # times the room, at most, goes on because it is within the noise


@dataclass(frozen=True)
class Polish:
    """How an adapter that was cut is trained to the end.

    Attributes:
        share: For how long, as a share of a whole training; an epoch at least.
        lr: At which share of its learning rate.
    """

    share: float
    lr: float

    def settings(self, whole: TrainSettings) -> dict[str, Any]:
        """Return what is other in the settings of the polishing.

        Args:
            whole: The settings of the training that was cut, with the defaults filled in.
        """
        assert whole.lr is not None
        epochs = max(1, round(self.share * whole.max_num_epochs))
        own = {"start": plain_start(whole.start), "start_from": None}
        return {"max_num_epochs": epochs, "lr": self.lr * whole.lr} | own


@dataclass(frozen=True)
class Rules:
    """How the settings of a method race, as the section `race` has it.

    Attributes:
        rungs: Where settings are compared, in shares of the longest training, rising.
        keep: The share of settings that goes on at each rung but the last.
        finalists: How many go on at the last rung, and at least at each.
        margin: What lies within this many times the noise of the cut goes on, too.
        seeds_after: After how many rungs all seeds train; None means all.
        polish: How lower ranks are trained that are cut from the highest; None where each rank is
            trained from the start.
    """

    rungs: tuple[float, ...]
    keep: float
    finalists: int
    margin: float
    seeds_after: int | None = None
    polish: Polish | None = None

    def epochs(self, longest: int) -> list[int]:
        """Return the epochs of the rungs.

        Args:
            longest: The epochs of a whole training.
        """
        return [min(longest, max(1, round(share * longest))) for share in self.rungs]

    def room(self, n: int, rung: int, ranks: int = 1) -> int:
        """Return how many of n settings go on at a rung, noise apart.

        Args:
            n: The number of settings.
            rung: The index of the rung, from 0.
            ranks: The number of finalists that one of them makes: itself and what is cut from it.
        """
        last = rung == len(self.rungs) - 1
        least = math.ceil(self.finalists / ranks)
        return min(n, max(least, 0 if last else math.ceil(self.keep * n)))

    def most(self, n: int, rung: int, ranks: int = 1) -> int:
        """Return how many of n settings go on at a rung at most, those within the noise included.

        Args:
            n: The number of settings.
            rung: The index of the rung, from 0.
            ranks: As for `room`.
        """
        room = self.room(n, rung, ranks)
        return min(n, MORE * room) if self.margin else room

    def has_all_seeds(self, leg: int) -> bool:
        """Return True for a leg in which all seeds of a setting train.

        Args:
            leg: Its number, from 1; as many rungs as one less lie before it.
        """
        return leg > (len(self.rungs) if self.seeds_after is None else self.seeds_after)


class Race(Section):
    """How the settings of a method race: most are stopped early, and the finalists get all."""

    rungs: Annotated[tuple[float, ...], As(tuple_of(SHARE, least=1))] = Field(
        default=(0.2, 0.4),
        description="Where settings are compared, as rising shares of the epochs of a training.",
    )
    keep: Annotated[float, As(number(Bounds(gt=0, le=1)))] = Field(
        default=0.5, description="The share of the settings that goes on at each rung but the last."
    )
    finalists: Annotated[int, As(integer(Bounds(ge=LEAST, le=10**9)))] = Field(
        default=2,
        description="The number of settings that go on at the last rung, and the least at each. A "
        "method with no more settings than that does not race.",
    )
    ranks: Annotated[str, As(one_of(("train", "cut")))] = Field(
        default="train",
        description="Where lower ranks come from: train trains each from the start; cut trains the "
        "highest rank alone, cuts what comes to the end to every lower rank of the grid by SVD, "
        "and polishes those. A finalist of the highest rank counts with what is cut from it.",
    )
    polish: Annotated[float, As(SHARE)] = Field(
        default=0.2,
        description="For how long a cut is trained, as a share of the epochs of a training.",
    )
    polish_lr: Annotated[float, As(number(POSITIVE))] = Field(
        default=0.3,
        description="The learning rate of a cut, as a share of that of the training.",
    )
    seeds_after: Annotated[int | None, As(integer(Bounds(ge=0, le=10**9)) | None)] = Field(
        default=None,
        description="The number of rungs after which all seeds of a setting train; before that, "
        "its first alone. null means all rungs.",
    )
    margin: NotNegative = Field(
        default=0,
        description="What lies within this many times the noise of the last that goes on, goes on, "
        f"too, up to {MORE} times as many. The noise is that of the seeds where several have run, "
        "else that of the steps from epoch to epoch.",
    )

    checks: Annotated[tuple[str, ...], As(tuple_of(one_of(NAMES)))] = Field(
        default=(),
        description="Checks that are run at each rung, too, on the foundation model as well. A "
        "setting over a limit is stopped, unless fewer than go on are left without it.",
    )

    @model_validator(mode="after")
    def _rising(self) -> "Race":
        if list(self.rungs) != sorted(self.rungs):
            raise said(f"the rungs {list(self.rungs)} do not rise; put them in order")
        if (self.seeds_after or 0) > len(self.rungs):
            raise said(f"seeds_after: {self.seeds_after} is more than the {len(self.rungs)} rungs")
        return self

    def rules(self) -> Rules:
        """Return the rules that the section writes down."""
        polish = Polish(self.polish, self.polish_lr) if self.ranks == "cut" else None
        return Rules(self.rungs, self.keep, self.finalists, self.margin, self.seeds_after, polish)


def _switch(value: Any) -> bool:
    """Return whether to race; `--config race=on` gives a text."""
    words = {"on": True, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in words:
        return words[value]
    raise said(f"{shown(value)} is not on, off or a mapping; write for example race: on")


SWITCH = Annotated[bool, BeforeValidator(_switch)]
RACE = Annotated[
    Annotated[SWITCH, Tag("<text>")]
    | Annotated[Race, Tag("<dict>")]
    | Annotated[SWITCH, Tag("<other>")],
    Discriminator(lambda value: "<dict>" if isinstance(value, Race) else kind_of(value)),
]
