"""Where adapters start, if not at random: at a cut, an earlier adapter, or along the gradient."""

import logging
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.adapters.inject import lora_layers
from lora.adapters.ranks import Ranks, keep_best
from lora.catalogue.methods import LOSS_TERMS, SHARED
from lora.mace.graphs import batches
from lora.mace.loss import loss_of
from lora.plan.settings import TrainSettings
from lora.training.cuts import cut_from, digest_of
from lora.training.distributed import average, rank_and_size
from lora.training.earlier import earlier_adapter, from_adapter
from lora.training.streams import streams

log = logging.getLogger(__name__)
PASS = 8  # batches that the gradient is taken of
Start = Callable[[nn.Module], None]  # puts the adapters of an injected model at their start


def starts_of(
    settings: Sequence[TrainSettings],
    cuts: Sequence[Path | None],
    base: nn.Module,
    train: Sequence[Any],
) -> list[Start | None]:
    """Return of each point what puts its adapters at their start; None for a random one.

    A training that goes on starts so, too, before its checkpoint is read: what can be of use of
    that is not known earlier.

    Args:
        settings: Resolved settings of each point.
        cuts: Of each point, the folder of the adapter that it is cut from, if it is.
        base: The foundation model.
        train: The training set as graphs.
    """

    def of(one: TrainSettings, cut: Path | None) -> Start | None:
        if cut:
            return cut_from(base, cut)
        if one.goes_on:
            return from_adapter(base, one)
        return along_gradient(one, train) if one.asks_gradient else None

    return [of(one, cut) for one, cut in zip(settings, cuts, strict=True)]


def start_digest(settings: TrainSettings, cut: Path | None) -> str:
    """Return a digest of the adapter at which a point starts; "" where it starts anew.

    Args:
        settings: Resolved settings of the point.
        cut: The folder of the adapter that it is cut from, if it is.

    Raises:
        UserError: The adapter is missing or damaged.
    """
    source = cut or (earlier_adapter(settings) if settings.goes_on else None)
    return digest_of(source) if source else ""


def along_gradient(settings: TrainSettings, train: Sequence[Any]) -> Start:
    """Return what starts adapters along the gradient of the loss by each adapted weight.

    The gradient is that of the untrained model, summed over the first `PASS` batches.  With the
    start `gradient_ranks` it also says how many columns each irrep of each layer keeps.

    Args:
        settings: Resolved settings of the point.
        train: The training set as graphs.
    """

    def start(model: nn.Module) -> None:
        layers = [layer for _, layer in lora_layers(model)]
        probes = [torch.zeros_like(layer.base_weight()).requires_grad_() for layer in layers]
        for layer, probe in zip(layers, probes, strict=True):
            layer.probe = probe
        loss, terms = loss_of(settings, probes[0]), LOSS_TERMS[settings.loss]
        wanted = {f"compute_{x}": x in terms for x in ("stress", "virials")}
        order = streams(settings.seed).order(1)
        device, n = str(probes[0].device), settings.batch_size
        todo = batches(train, n, device, order, 0, rank_and_size(), settings.drop_last)
        for batch in islice(todo, PASS):
            out = model(batch.to_dict(), training=True, **wanted)
            ddp = rank_and_size()[1] > 1
            torch.autograd.backward(loss(pred=out, ref=batch, ddp=ddp), inputs=probes)
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in probes]
        average(gradients)
        for layer, gradient in zip(layers, gradients, strict=True):
            layer.probe = None
            layer.start_from(gradient)
        if settings.start == SHARED:
            _say(keep_best(layers, gradients), settings.rank)

    return start


def _say(ranks: Ranks, rank: int) -> None:
    """Say which ranks are left, and of which irreps."""
    every = [n for of_layer in ranks for n in of_layer.values()]
    log.info(
        "start %s: %d of %d columns of A and B train, %d to %d of %d for an irrep of a layer",
        *(SHARED, sum(every), rank * len(every), min(every), max(every), rank),
    )
