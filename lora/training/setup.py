"""What a point trains, and on what: methods, protocols, shares of the data."""

import logging
import math

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.adapters.inject import inject_lora
from lora.errors import UserError
from lora.mace.modules import count_parameters
from lora.plan.settings import TrainSettings

log = logging.getLogger(__name__)

# settings that the points of a pack share
ALIKE = ("method", "replay", "replay_weight", "train_fraction", "default_dtype", "device")
ALIKE += ("enable_cueq", "allow_tf32")


def common(settings: list[TrainSettings]) -> TrainSettings:
    """The first of the settings, once it is clear that they can train together."""
    first = settings[0]
    for one in settings[1:]:
        for name in (*ALIKE, *(["seed"] if first.train_fraction < 1 else [])):
            if getattr(one, name) != getattr(first, name):
                raise UserError(f"pack: its points need the same {name}")
    if len(settings) > 1 and first.method != "lora":
        raise UserError(f"pack: {first.method} changes the base; only LoRA points share one")
    return first


def nested(structures: list[Atoms], fraction: float, seed: int) -> list[Atoms]:
    """A share of the structures, in their order; a smaller share of a seed lies in the larger."""
    order = np.random.default_rng(seed).permutation(len(structures))
    chosen = sorted(order[: math.ceil(fraction * len(structures))].tolist())
    return [structures[i] for i in chosen]


def prepare(model: nn.Module, settings: TrainSettings) -> None:
    """Inject LoRA, or say which weights train (`full`: all; `freeze`: by MACE's levels)."""
    torch.manual_seed(settings.seed)
    if settings.method == "lora":
        own = {"scaling": settings.scaling, "targets": settings.targets}
        inject_lora(model, settings.rank, settings.alpha, **own)
    else:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    if settings.method == "freeze":
        frozen_from = {"node_embedding": 1, "interactions": 5, "products": 6}
        for name, level in frozen_from.items():
            if settings.freeze_level >= level:
                getattr(model, name).requires_grad_(False)
    log.info("%s: %d of %d parameters train", settings.method, *count_parameters(model))
