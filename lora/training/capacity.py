"""Decide how many points share a step: as many as pay on a CPU, as many as fit on a GPU."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from lora.errors import UserError
from lora.mace.graphs import batches
from lora.mace.predict import frozen
from lora.training.distributed import any_of
from lora.training.loop import Fit

log = logging.getLogger(__name__)

CACHE = 100e6  # bytes that the edges of a step carry, up to which a pack pays on a CPU


def fit_cache(fit: Fit, width: int) -> int:
    """Let as many points share a step as pays on a CPU.  Return the number.

    A pack pays as long as the widest tensor of a step, what edges carry [n_edges, width], is
    not much larger than the cache; measured in benchmarks/README.md.

    Args:
        fit: Points that have not trained yet.
        width: Numbers that an edge carries; see `lora.mace.fast.convolution.message_width`.
    """
    s, trained = fit.points[0].settings, next(iter(fit.points[0].trained.values()))
    n_edges = s.batch_size * sum(map(_n_edges, some := _sample(fit.train))) / len(some)
    fits = CACHE / max(1.0, n_edges * width * trained.element_size())
    while fit.together > max(1.0, fits):
        fit.together = -(-fit.together // 2)
    log.info("%d points share a step", fit.together)
    return fit.together


def fit_memory(fit: Fit) -> int:
    """Let all points go through a step together, or the half, a quarter, ... that fits.

    This tries the largest structures (of 10,000, if there are more) on the GPU.  How many go
    together changes the last digits of a training, so it follows from the data and not from a
    clock.  Return the number.

    Raises:
        UserError: A single point does not fit.
    """
    s = fit.points[0].settings
    by_size = sorted(_sample(fit.train), key=_n_edges)[-s.batch_size :]
    step = next(batches(by_size, s.batch_size, fit.device))
    by_size = sorted(_sample(fit.valid), key=_n_edges)[-s.valid_batch_size :]
    validation = next(batches(by_size, s.valid_batch_size, fit.device))
    while True:
        group = list(range(fit.together))
        failed = False
        try:
            fit._backward(step, group, alone=True)
            with frozen(fit.model):
                fit._outputs(validation, group, training=False)
        except torch.OutOfMemoryError:
            failed = True
        if not any_of(failed):
            return fit.together
        log.info("%d points at once do not fit into memory", fit.together)
        if fit.together == 1:
            raise UserError(
                f"batch_size {s.batch_size}, valid_batch_size {s.valid_batch_size}: do not "
                "fit into the memory of the GPU; lower them"
            )
        fit.together = -(-fit.together // 2)


def _sample(graphs: Sequence[Any], n: int = 10_000) -> Sequence[Any]:
    """Return all of them, or some n spread evenly."""
    return graphs[:: max(1, len(graphs) // n)]


def _n_edges(graph: Any) -> int:
    return int(graph.edge_index.shape[1])
