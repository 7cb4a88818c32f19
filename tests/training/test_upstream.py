"""Trainings beside mace_run_train's own optimiser, clipping, average and schedule, step by step."""

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from lora.mace.door import upstream
from lora.mace.graphs import batches, graphs
from lora.plan.settings import TrainSettings
from lora.training.loop import Fit
from lora.training.state import TrainingState
from lora.training.trainees import make_trainee
from tests.support import counts
from tests.support.models import make_model, structures

METHODS = {
    "full": {},
    "freeze": {"freeze_level": 1},
    "lora": {"rank": 3, "alpha": 8.0, "start": "upstream"},
}
ROWS = counts.covering(METHODS, ["adam", "adamw"])
# clipping binds, the rate falls, the average and the decay are strong enough to be seen
SETTINGS = {"lr": 0.01, "ema_decay": 0.7, "clip_grad": 0.5, "weight_decay": 0.05, "batch_size": 2}
SETTINGS |= {"lr_factor": 0.3, "scheduler_patience": 0, "beta": 0.8, "drop_last": True, "seed": 5}
LOSSES = [1.0, 2.0, 0.5, 3.0]  # of validation, made up: the rate falls twice
FACTORS = {f"{x}_lr_factor": 1.0 for x in ("embedding", "interactions", "products", "readouts")}


class Theirs:
    """A training with the pieces of mace_run_train.

    Args:
        model: A MACE model, with its own LoRA or none.
        settings: The settings of ours.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings) -> None:
        scripts = upstream("mace.tools.scripts_utils")
        args = SimpleNamespace(**settings.to_dict(), lr_params_factors=json.dumps(FACTORS))
        args.freeze = settings.freeze_level if settings.method == "freeze" else None
        self.model, self.clip = model, settings.clip_grad
        options = scripts.get_params_options(args, model)
        self.optimizer = scripts.get_optimizer(args, options)
        self.scheduler = scripts.LRScheduler(self.optimizer, args)
        self.ema = ExponentialMovingAverage(model.parameters(), settings.ema_decay)
        self.loss = upstream("mace.modules").WeightedEnergyForcesLoss(1.0, 100.0)

    def step(self, batch: Any) -> None:
        """Take one step."""
        wanted = {"forces": True, "virials": False, "stress": False}
        upstream("mace.tools.train").take_step(
            *(self.model, self.loss, batch, self.optimizer, self.ema, wanted, self.clip, "cpu")
        )

    def weights(self) -> dict[str, Tensor]:
        """Return the weights and their averages by name."""
        now = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        with self.ema.average_parameters():
            mean = {f"mean of {n}": p.detach().clone() for n, p in self.model.named_parameters()}
        return now | mean


def settings(method: str, **own: object) -> TrainSettings:
    return TrainSettings(method=method, **(METHODS[method] | SETTINGS | own)).resolved()


def with_factors(model: nn.Module, layers: dict[str, Any], one: TrainSettings) -> nn.Module:
    """The model with upstream's LoRA that has our factors."""
    upstream("mace.modules.lora").inject_lora(model, rank=one.rank, alpha=one.alpha)
    with torch.no_grad():
        for name, layer in layers.items():
            for factor in ("lora_A", "lora_B"):
                target = getattr(model.get_submodule(name), factor)
                getattr(target, "weight", target).copy_(getattr(layer, factor))
    return model


def ours_of(trainee: Any, point: TrainingState) -> dict[str, Tensor]:
    """Return the weights and their averages by upstream's names."""

    def named() -> dict[str, Tensor]:
        if point.settings.method != "lora":
            return {n: p.detach().clone() for n, p in point.trained.items()}
        return {
            f"{name}.{factor}": getattr(layer, factor).detach().clone()
            for name, layer in trainee.pack.layers(0).items()
            for factor in ("lora_A", "lora_B")
        }

    now = named()
    assert point.ema
    with point.ema.average_parameters():
        return now | {f"mean of {n}": x for n, x in named().items()}


def train(one: TrainSettings, theirs: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Train ours and theirs on the same batches; return weights and averages of both."""
    model = make_model()
    data = graphs(structures(), model)
    trainee, _ = make_trainee(model, [one])
    (trained,), (decayed,) = trainee.trained(), trainee.decayed()
    point = TrainingState(trained, one, decayed)
    fit = Fit(trainee, [point], data, data)
    if one.method == "lora":
        theirs = with_factors(theirs, trainee.pack.layers(0), one)
    other = Theirs(theirs, one)
    for epoch, loss in enumerate(LOSSES):
        for batch in batches(data, one.batch_size, shuffle=epoch, drop_last=True):
            other.step(copy.deepcopy(batch))
            fit.train_step(batch, [0])
        point.history.append({"valid_loss": loss})
        point.step_scheduler()
        other.scheduler.step(metrics=loss)
        rate = max(group["lr"] for group in other.optimizer.param_groups)  # of frozen parts it is 0
        assert point.optimizer.param_groups[0]["lr"] == rate
    assert rate == pytest.approx(0.01 * 0.3**2)
    return ours_of(trainee, point), other.weights()


def gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest difference of weights that ours trains, relative to their size."""
    pairs = [(x, theirs.get(n, theirs.get(f"{n}.weight"))) for n, x in ours.items()]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b is not None)


@pytest.mark.long
@pytest.mark.parametrize(("method", "optimizer"), ROWS, ids=counts.named(ROWS))
def test_steps_are_those_of_mace_run_train(method: str, optimizer: str) -> None:
    """With EMA, clipping that binds, a schedule that steps and weight decay: to 1e-9."""
    one = settings(method, optimizer=optimizer)
    ours, theirs = train(one, make_model())
    start = dict(make_model().named_parameters())
    named = {n if n in theirs else f"{n}.weight" for n in ours}
    assert named <= set(theirs) and len(ours) > 10
    assert gap(ours, theirs) < 1e-9
    if method != "lora":
        moved = [float((x - start[n]).abs().max()) for n, x in ours.items() if n in start]
        assert min(moved) > 1e-4 or method == "freeze"
    without, _ = train(settings(method, optimizer=optimizer, weight_decay=0.0), make_model())
    assert gap(ours, without) > 1e-6


def test_a_gradient_that_upstream_never_zeroes_tightens_its_clipping() -> None:
    """Of Bessel frequencies, which its fine-tuning makes a parameter and its optimiser forgets."""

    def with_frequencies() -> nn.Module:
        model = make_model()
        radial: Any = model.radial_embedding
        frequencies = radial.bessel_fn.bessel_weights
        del radial.bessel_fn.bessel_weights
        radial.bessel_fn.bessel_weights = nn.Parameter(frequencies.clone())
        return model

    one, name = settings("full"), "radial_embedding.bessel_fn.bessel_weights"
    model = with_frequencies()
    ours, theirs = train(one, model)
    assert gap(ours, theirs) > 1e-4 and name not in ours
    assert torch.equal(theirs[name], dict(make_model().named_buffers())[name])  # it never moves
    piled = dict(model.named_parameters())[name].grad
    assert piled is not None and float(piled.norm()) > 0.1  # it is a part of the norm, 0.5 at most
    frozen = with_frequencies()
    dict(frozen.named_parameters())[name].requires_grad_(False)
    assert gap(*train(one, frozen)) < 1e-9
