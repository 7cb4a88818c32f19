"""Set up a model and its data: inject LoRA or choose weights, and draw nested subsets."""

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.adapters.inject import Injection, inject, ranks
from lora.adapters.sound import say_idle_ranks
from lora.catalogue.methods import ADAPTERS, own_start
from lora.data.held import some
from lora.errors import UserError
from lora.mace.modules import count_parameters
from lora.mace.trained import let_train
from lora.plan.settings import TrainSettings
from lora.training.streams import streams

log = logging.getLogger(__name__)

# settings that the points of a pack share; the seed, too, where it draws a share of the data
ALIKE: tuple[str, ...] = (
    "method",
    "replay",
    "replay_weight",
    "keep",
    "keep_weight",
    "keep_penalty",
    "train_fraction",
    "default_dtype",
    "device",
)
ALIKE += ("enable_cueq", "allow_tf32")
# the parts of a model that the method freeze does not train, from which level on
FROZEN_FROM = {"node_embedding": 1, "interactions": 5, "products": 6}


def common(settings: list[TrainSettings]) -> TrainSettings:
    """Return the first of the settings, once it is clear that they can train together.

    Raises:
        UserError: They differ in what a pack shares, or are not LoRA points.
    """
    first = settings[0]
    for other in settings[1:]:
        for name in (*ALIKE, *(["seed"] if first.train_fraction < 1 else [])):
            if getattr(other, name) != getattr(first, name):
                raise UserError(
                    f"pack: points that train together need the same {name}, here "
                    f"{getattr(first, name)} and {getattr(other, name)}; train them separately"
                )
    if len(settings) > 1 and first.method not in ADAPTERS:
        raise UserError(
            f"pack: the method {first.method} changes the base, which only LoRA points can "
            "share; train its points separately"
        )
    if len(settings) > 1 and any(one.targets.modules_to_save for one in settings):
        raise UserError(
            "pack: a point with targets.modules_to_save has weights of its own, which points that "
            "share a base cannot have; train it alone"
        )
    return first


def nested(structures: Sequence[Atoms], fraction: float, seed: int) -> Sequence[Atoms]:
    """Return a share of the structures, in their order; of one seed, shares lie in larger ones.

    Args:
        structures: The whole training set.
        fraction: The share, above 0 and at most 1; at least one structure is kept.
        seed: Of the point; see `lora.training.streams`.
    """
    order = np.random.default_rng(streams(seed).subset).permutation(len(structures))
    chosen = sorted(order[: math.ceil(fraction * len(structures))].tolist())
    return some(structures, chosen)


def padded(settings: list[TrainSettings]) -> str:
    """Return what a pack pads its points to: the highest rank and, if more, the most columns.

    Args:
        settings: Of each point.
    """
    rank, width = (max(getattr(x, name) for x in settings) for name in ("rank", "width"))
    return f"{rank} {width}" if width > rank else str(rank)


def prepare(model: nn.Module, settings: TrainSettings) -> None:
    """Inject LoRA with its random start, or choose the weights that train; in place."""
    torch.manual_seed(streams(settings.seed).start)
    if settings.method in ADAPTERS:
        inject(model, injection_of(settings))
        say_idle_ranks(ranks(model))
    else:
        choose_weights(model, settings)
    log.info("%s: %d of %d parameters train", settings.method, *count_parameters(model))


def injection_of(settings: TrainSettings) -> Injection:
    """Return how the model of a point with adapters is injected."""
    s = settings
    start = own_start(s.start)
    return Injection(s.rank, s.alpha, s.scaling, s.targets, kind=s.method, start=start)


def choose_weights(model: nn.Module, settings: TrainSettings) -> None:
    """Let all weights train (full), or those above MACE's level of freezing (freeze)."""
    level = settings.freeze_level if settings.method == "freeze" else 0
    let_train(model, tuple(x for x, least in FROZEN_FROM.items() if level >= least))
