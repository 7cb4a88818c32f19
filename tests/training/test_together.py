"""Optimisers of several points stepped together: to rounding what each does alone."""

import copy

import pytest
import torch

from lora.mace.graphs import batches, graphs
from lora.training.loop import Fit
from lora.training.together import step_together
from tests.support.models import make_model, structures
from tests.support.packs import POINTS, packed


def trained(together: bool, **own: object) -> list[dict[str, torch.Tensor]]:
    """Return weights, moments and averages of a pack after some steps."""
    base = make_model()
    data = graphs(structures(), base)
    pack, points = packed(base, [one | own for one in POINTS], {})
    fit = Fit(pack, points, data, data)
    group = list(range(len(points)))
    for batch in list(batches(data, 2, shuffle=0)) * 3:
        fit._backward(batch, group)
        if together:
            step_together(points)
        else:
            for point in points:
                point.step()
    out = []
    for point in points:
        (parameter,) = point.trained.values()
        moments = point.optimizer.state[parameter]
        shadow = {"average": point.ema.shadow_params[0]} if point.ema else {}
        out.append(copy.deepcopy({"weights": parameter.data} | moments | shadow))
    return out


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"ema": False},
        {"amsgrad": False},
        {"clip_grad": 1e-3},
        {"weight_decay": 0.1},
        {"lr_ratio_b": 8.0},
    ],
    ids=["default", "no average", "no amsgrad", "clipping binds", "weight decay", "ratio of B"],
)
def test_together_is_one_after_the_other(own: dict) -> None:
    for a, b in zip(trained(True, **own), trained(False, **own), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            torch.testing.assert_close(value, b[name], rtol=1e-12, atol=1e-18)
        assert a["weights"].abs().max() > 1e-3


def test_points_of_different_rates_stay_apart() -> None:
    """Guards the comparison above: the points do differ."""
    first, *others = trained(True)
    for other in others:
        assert not torch.equal(first["weights"], other["weights"])
        assert torch.equal(first["step"], other["step"])
