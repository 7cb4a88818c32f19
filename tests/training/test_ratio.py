"""LoRA+: another learning rate of the factors B, `lr_ratio_b`."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from lora.plan.settings import TrainSettings
from lora.plan.targets import Targets
from lora.training.state import TrainingState
from lora.training.trainees import AdapterPack, make_trainee
from tests.support.models import make_model

RATIO, STEPS, N_A = 16.0, 12, 7  # of 12 numbers, the first 7 are A


def row() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64))


def gradient(i: int) -> Tensor:
    return torch.randn(12, generator=torch.Generator().manual_seed(i), dtype=torch.float64)


def settings(**own: object) -> TrainSettings:
    return TrainSettings(**({"lr": 0.01, "clip_grad": 0.0, "ema_decay": 0.9} | own)).resolved()


def state(**own: object) -> TrainingState:
    where = (torch.arange(12) >= N_A).double()
    return TrainingState({"factors": row()}, settings(**own), None, {"factors": where})


def stepped(point: TrainingState, first: int = 0, last: int = STEPS) -> TrainingState:
    for i in range(first, last):
        point.trained["factors"].grad = gradient(i)
        point.step()
    return point


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_adam_with_two_groups(decay: float) -> None:
    """And the moving average is that of what it moves."""
    whole = row().detach()
    a, b = nn.Parameter(whole[:N_A].clone()), nn.Parameter(whole[N_A:].clone())
    groups = [{"params": [a], "lr": 0.01}, {"params": [b], "lr": 0.01 * RATIO}]
    theirs = torch.optim.AdamW(groups, weight_decay=decay, amsgrad=True)
    ema = ExponentialMovingAverage([a, b], 0.9)
    for i in range(STEPS):
        a.grad, b.grad = gradient(i).split([N_A, 12 - N_A])
        theirs.step()
        ema.update()
    ours = stepped(state(lr_ratio_b=RATIO, optimizer="adamw", weight_decay=decay))
    assert ours.ema
    with torch.no_grad():
        expected, mean = torch.cat([a, b]), torch.cat(ema.shadow_params)
    assert torch.allclose(ours.trained["factors"], expected, rtol=1e-13, atol=1e-14)
    assert torch.allclose(ours.ema.shadow_params[0], mean, rtol=1e-13, atol=1e-14)


def test_ratio_1_is_adam_to_the_last_bit() -> None:
    parameter = row()
    theirs = torch.optim.Adam([parameter], lr=0.01, amsgrad=True)
    for i in range(STEPS):
        parameter.grad = gradient(i)
        theirs.step()
    assert torch.equal(stepped(state()).trained["factors"], parameter)
    assert not torch.equal(stepped(state(lr_ratio_b=RATIO)).trained["factors"], parameter)


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been() -> None:
    whole = stepped(state(lr_ratio_b=RATIO))
    half = copy.deepcopy(stepped(state(lr_ratio_b=RATIO), 0, 5).state())
    resumed = state(lr_ratio_b=RATIO)
    resumed.load_state(half)
    stepped(resumed, 5)
    assert whole.ema and resumed.ema
    assert torch.equal(whole.trained["factors"], resumed.trained["factors"])
    assert torch.equal(whole.ema.shadow_params[0], resumed.ema.shadow_params[0])


@pytest.mark.parametrize("method", ["lora", "dora", "sparse"])
def test_it_acts_on_the_factors_b_alone(method: str) -> None:
    """Of adapters in a pack, and of those beside whole modules, which train by name."""
    one = TrainSettings(method=method, rank=2).resolved()
    pack, _ = make_trainee(make_model(), [one])
    assert isinstance(pack, AdapterPack)
    ((fast,), (trained,)) = pack.b_factors(), pack.trained()
    assert fast["factors"].shape == trained["factors"].shape
    layers = pack.pack.layers(0)
    wanted = [torch.full_like(p, n == "lora_B").flatten() for x in layers.values()
              for n, p in x.values().items()]  # fmt: skip
    assert torch.equal(fast["factors"], torch.cat(wanted))
    assert bool(fast["factors"].any()) == (method != "sparse")

    beside = TrainSettings(method=method, rank=2, targets=Targets(modules_to_save=("readouts",)))
    single, _ = make_trainee(make_model(), [beside.resolved()])
    (named,), (all_trained,) = single.b_factors(), single.trained()
    assert set(named) == {name for name in all_trained if name.endswith("lora_B")}
    assert any(name.startswith("readouts") for name in all_trained)
