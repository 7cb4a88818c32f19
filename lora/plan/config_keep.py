"""The section `keep` of the config: structures that keep what the foundation model knows."""

from typing import Annotated

from pydantic import Field

from lora.catalogue import made
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS, OPTIONS
from lora.plan.values import As, Count, NotNegative, Seed, number, one_of, tuple_of


class Keep(Section):
    """Structures made around the training set, for points with keep; no old data are needed."""

    kinds: Annotated[tuple[str, ...], As(tuple_of(one_of(made.NAMES), least=1))] = Field(
        default=made.NAMES,
        description="The kinds of structures that are made; each makes as many candidates.",
    )
    num_samples: Count = Field(
        default=200,
        description="The largest number of structures that are trained on: of the candidates, "
        f"{made.CANDIDATES} times as many, those that lie farthest from the training set and from "
        "each other, as the foundation model's layers describe them.",
    )
    temperatures: Annotated[tuple[float, ...], As(tuple_of(number(made.TEMPERATURE), least=1))] = (
        Field(
            default=(300, 600, 1000),
            description="The temperatures of the molecular dynamics (kind heated, K), in turn.",
        )
    )
    seed: Seed = Field(default=0, description="The random seed for making structures.")
    weight: NotNegative = Field(
        default=DEFAULTS["keep_weight"], description=OPTIONS["keep_weight"].help
    )
    penalty: NotNegative = Field(
        default=int(DEFAULTS["keep_penalty"]), description=OPTIONS["keep_penalty"].help
    )
