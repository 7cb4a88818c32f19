"""Batched predictions, without gradients of weights."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from lora.mace.device import device_of
from lora.mace.door import Untyped, default_dtype
from lora.mace.graphs import batches, graphs


def predict(
    model: nn.Module, dataset: Sequence[Any], batch_size: int = 32, stress: bool = False
) -> dict[str, np.ndarray]:
    """Return what a model predicts for structures.

    Args:
        model: A MACE model, with adapters or without.
        dataset: What `graphs` returned.
        batch_size: The number of structures in a batch.
        stress: Whether to predict stresses.

    Returns:
        "energy" [n] (eV), "forces" [n_atoms of all, 3] (eV/Å), if asked "stress" [n, 3, 3]
        (eV/Å^3), and "seconds", the wall time of all batches.
    """
    kept: dict[str, list[Tensor]] = {"energy": [], "forces": []}
    if stress:
        kept["stress"] = []
    started = time.perf_counter()
    with frozen(model):
        for batch in batches(dataset, batch_size, device_of(model)):
            out = model(batch.to_dict(), training=False, compute_stress=stress)
            for key, values in kept.items():
                values.append(out[key].detach().cpu())
    result = {key: torch.cat(values).numpy() for key, values in kept.items()}
    return result | {"seconds": np.array(time.perf_counter() - started)}


def on_cluster(model: Untyped, numbers: list[int], head: str | None = None) -> dict[str, Tensor]:
    """Return energy and forces of a small made-up cluster, a cation in a doublet.

    Args:
        model: A MACE model.
        numbers: The atomic numbers of the elements to make it of.
        head: The head that predicts; None means the first.

    Returns:
        "energy" [1] and, where the model says it, "interaction_energy" [1], without the E0s (eV),
        and "forces" [n, 3] (eV/Å).
    """
    chosen = [numbers[i % len(numbers)] for i in range(6)]
    spread = 0.45 * float(model.r_max) * np.random.default_rng(0).uniform(-1, 1, size=(6, 3))
    cluster = Atoms(chosen, positions=spread, info={"total_charge": 1, "total_spin": 2})
    (graph,) = graphs([cluster], model)
    if head:
        graph.head = torch.tensor(list(model.heads).index(head))
    batch = next(batches([graph], 1, device_of(model)))
    with frozen(model):
        out = model(batch.to_dict(), training=False)
    keys = ("energy", "interaction_energy", "forces")
    return {key: out[key].detach() for key in keys if out.get(key) is not None}


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Predict in this context: gradients of positions alone, new numbers in the model's dtype.

    MACE makes the mask of heads in torch's default dtype, which may not be the model's.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with default_dtype(next(model.parameters()).dtype):
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
