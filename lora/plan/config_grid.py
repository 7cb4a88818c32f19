"""The section `grid` of the config: the points with adapters."""

from typing import Annotated, Any

from pydantic import Field

from lora.catalogue.methods import ADAPTERS, ALL_STARTS, PLACEMENT, PLACEMENTS
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS, OPTIONS
from lora.plan.values import As, integer, number, one_of, tuple_of


def _grid(name: str) -> Any:
    """Return the type of a list of values of one training setting."""
    option = OPTIONS[name]
    one = integer(option.bounds) if option.kind is int else number(option.bounds)
    return tuple_of(bool if option.kind is bool else one, least=1)


STARTS = tuple_of(one_of(ALL_STARTS), least=1)


class Grid(Section):
    """The points with adapters: every combination of the lists is one."""

    adapter: Annotated[tuple[str, ...], As(tuple_of(one_of(ADAPTERS), least=1))] = Field(
        default=(DEFAULTS["method"],),
        description="The kinds of adapters. Each has its settings in methods and, in a race, a "
        "race of its own; it begins the names of its points.",
    )
    rank: Annotated[tuple[int, ...], As(_grid("rank"))] = Field(
        default=(DEFAULTS["rank"],),
        description="The ranks of the factors A and B. Typical values are 2 to 16.",
    )
    alpha: Annotated[tuple[float, ...], As(_grid("alpha"))] = Field(
        default=(int(DEFAULTS["alpha"]),), description="The numerators of the LoRA scaling."
    )
    start: Annotated[tuple[str, ...] | None, As(STARTS | None)] = Field(
        default=None,
        description="The starts of the factors, where they are swept. Leave it out to use "
        "train.start; a start that differs from that is in the name of the point. A kind of "
        "adapter takes those that it has.",
    )
    placement: Annotated[tuple[str, ...], As(tuple_of(one_of(PLACEMENTS), least=1))] = Field(
        default=(PLACEMENT,),
        description="The layers that get adapters: linear those that targets say, which are the "
        "linear layers; all also the skip connections (skip_tp) and the symmetric contractions. "
        "[linear, all] compares both.",
    )
    seed: Annotated[tuple[int, ...], As(_grid("seed"))] = Field(
        default=(DEFAULTS["seed"],),
        description="The random seeds of the start values of A and of the order of the "
        "structures. The baselines use them, too.",
    )
    replay: Annotated[tuple[bool, ...], As(_grid("replay"))] = Field(
        default=(DEFAULTS["replay"],),
        description="Whether to train on structures of the foundation model's own kind, too, with "
        "a second head (MACE's multihead fine-tuning), of which only the new head is shipped. "
        "[false, true] compares both. It needs replay.file.",
    )
    keep: Annotated[tuple[bool, ...], As(_grid("keep"))] = Field(
        default=(DEFAULTS["keep"],),
        description="Whether to train on structures made around the training set, too, that the "
        "foundation model itself labels with the new E0s (section keep), to forget less "
        "without any old data and without a second head. [false, true] compares both.",
    )
    train_fraction: Annotated[tuple[float, ...], As(_grid("train_fraction"))] = Field(
        default=(int(DEFAULTS["train_fraction"]),),
        description="The shares of the training set, each with the whole grid and the baselines, "
        "for a learning curve. A smaller share lies within a larger one. The model is chosen among "
        "the points of the largest share.",
    )
    lr: Annotated[tuple[float, ...] | None, As(_grid("lr") | None)] = Field(
        default=None,
        description="The learning rates, where they are swept. Leave it out to use methods.lora.lr "
        "or its default, and so of each kind of adapter.",
    )
    scaling: Annotated[str, As(one_of(OPTIONS["scaling"].choices))] = Field(
        default=DEFAULTS["scaling"], description=OPTIONS["scaling"].help
    )
