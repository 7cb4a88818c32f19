"""Packs of three points that differ."""

import copy

import numpy as np
import torch
from torch import nn

from lora import inject_lora
from lora.adapters.inject import take_adapters
from lora.adapters.pack import Pack
from lora.plan.settings import TrainSettings
from lora.training.state import TrainingState
from lora.training.trainees import AdapterPack
from tests.support import counts
from tests.support.models import outputs

# of three points: different ranks, alphas, scalings and learning rates, one that stops early
POINTS = [
    {"rank": 1, "alpha": 8.0, "lr": 0.02},
    {"rank": 3, "alpha": 2.0, "lr": 0.01, "scaling": "rank_stable"},
    {"rank": 2, "alpha": 4.0, "lr": 0.005, "max_num_epochs": 2},
]
EPOCHS = counts.of(3, 10)
COMMON = {"seed": 3, "batch_size": 2, "ema_decay": 0.5, "clip_grad": 1.0}
COMMON |= {"max_num_epochs": EPOCHS}


def settings(**own: object) -> TrainSettings:
    return TrainSettings(**(COMMON | own)).resolved()


def packed(
    base: nn.Module, points: list[dict], targets: dict, kind: str = "lora"
) -> tuple[Pack, list[TrainingState]]:
    """A pack of points on a copy of the base, and their trainings."""
    model, layers = copy.deepcopy(base), []
    for one in points:
        torch.manual_seed(3)
        own = {k: one[k] for k in ("rank", "alpha", "scaling") if k in one}
        inject_lora(model, **own, targets=targets, kind=kind)
        layers.append(take_adapters(model))
    pack = Pack(model, layers)
    trainee = AdapterPack(pack)
    trained = zip(trainee.trained(), points, trainee.b_factors(), strict=True)
    return pack, [
        TrainingState(row, settings(**one, method=kind), None, fast) for row, one, fast in trained
    ]


def of_point(pack: Pack, i: int) -> dict[str, np.ndarray]:
    """What the adapter of one point gives, taken out of the pack."""
    model = pack.dissolve(i)
    out = outputs(model)
    take_adapters(model)
    return out
