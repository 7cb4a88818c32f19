"""Models with adapters of any kind, and whether two models are the same to the last bit."""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from lora import inject_lora
from lora.mace.door import default_dtype
from lora.mace.graphs import batches, graphs
from tests.support.models import difference, make_model, outputs, perturb, structures

PRODUCTS = {"skip_tp": True, "symmetric_contraction": True}
FEW = structures()[2:4]  # CH3NO2, and a crystal, for the stress


def injected(kind: str, seed: int = 1, **more: object) -> nn.Module:
    """A base with adapters that are plainly not zero."""
    model = make_model()
    inject_lora(model, **({"rank": 2, "alpha": 2.0} | more), targets=PRODUCTS, kind=kind)
    perturb(model, seed=seed)
    assert difference(outputs(model, FEW), of_base()) > 1e-3
    return model


@cache
def base() -> nn.Module:
    """The base, which nothing is done to: a fresh one costs a quarter of a second."""
    return make_model()


@cache
def of_base() -> dict[str, np.ndarray]:
    """What the base predicts."""
    return outputs(base(), FEW)


def gap(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of what two models predict."""
    return difference(outputs(a, FEW), outputs(b, FEW))


def state(model: nn.Module) -> dict[str, tuple[Tensor, bool | None]]:
    """Weights and buffers, and which of them ask for a gradient."""
    asks = {name: p.requires_grad for name, p in model.named_parameters()}
    return {n: (x.clone(), asks.get(n)) for n, x in model.state_dict().items()}


def same(a: nn.Module | dict, b: nn.Module | dict) -> bool:
    """To the last bit; nan is nan."""
    one, two = (x if isinstance(x, dict) else state(x) for x in (a, b))
    return one.keys() == two.keys() and all(
        one[n][1] == two[n][1]
        and one[n][0].dtype == two[n][0].dtype
        and torch.equal(one[n][0].nan_to_num(7.0), two[n][0].nan_to_num(7.0))
        for n in one
    )


def train_step(model: nn.Module) -> None:
    """One step on the energies and forces of two structures, as a user's own loop takes it."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    batch = next(batches(graphs(FEW, model), 2))
    with default_dtype(torch.float64):
        out = model(batch.to_dict(), training=True)
    (out["energy"].square().sum() + out["forces"].square().sum()).backward()
    optimizer.step()
