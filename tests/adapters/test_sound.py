"""What is refused at injection, merging and saving, and which ranks are said to be idle."""

import copy
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter
from lora.adapters import sound
from lora.adapters.inject import lora_layers
from lora.adapters.lora import LoRADenseLinear
from lora.errors import UserError
from lora.plan.targets import Targets
from tests.support.models import difference, make_model, outputs, perturb

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("alpha", [0, -1.0, NAN, INF, -INF, True, "2", None])
def test_alphas_that_mean_nothing(alpha: object) -> None:
    refused("alpha must be a finite number above 0", alpha=alpha)
    with pytest.raises(ValueError, match="alpha must be a finite number above 0"):
        LoRADenseLinear(torch.nn.Linear(3, 2), alpha=alpha)  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, -2, 2.0, 2.5, True, "2", None, NAN])
def test_ranks_that_mean_nothing(rank: object) -> None:
    refused("rank must be", rank=rank)
    with pytest.raises(ValueError, match="rank must be"):
        LoRADenseLinear(torch.nn.Linear(3, 2), rank=rank)  # type: ignore[arg-type]


def refused(message: str, **how: object) -> None:
    """The model is as it was, whatever the order in which its layers are tried."""
    model = make_model()
    first = next(model.parameters())
    first.requires_grad_(False)
    before = [(n, p.requires_grad, p.clone()) for n, p in model.named_parameters()]
    with pytest.raises(ValueError, match=message) as caught:
        inject_lora(model, **how)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not dict(lora_layers(model))
    for (name, asks, value), (now, p) in zip(before, model.named_parameters(), strict=True):
        assert name == now and p.requires_grad == asks and torch.equal(p, value)


def test_a_bad_pattern_of_one_layer_changes_nothing() -> None:
    refused("alpha must be", targets=Targets(alpha_pattern={"readouts.1.*": -1.0}))
    with pytest.raises(UserError, match="must be above 0"):
        inject_lora(make_model(), targets={"alpha_pattern": {"readouts.1.*": -1.0}})


def test_numbers_of_numpy_are_numbers() -> None:
    model = make_model()
    inject_lora(model, rank=np.int64(2), alpha=np.float32(3))  # type: ignore[arg-type]
    layer = next(x for _, x in lora_layers(model))
    assert type(layer.rank) is int and layer.alpha == 3.0


@pytest.mark.parametrize(
    ("factor", "value"), itertools.product(["lora_A", "lora_B"], [NAN, INF, -INF])
)
def test_factors_that_are_not_finite(factor: str, value: float, tmp_path: Path) -> None:
    """Also where the other factor is zero, so that the product of A and B may look right."""
    model = make_model()
    inject_lora(model, rank=2)
    with torch.no_grad():
        model.get_parameter(f"readouts.0.linear.{factor}")[0] = value
    before = copy.deepcopy(model.state_dict())
    for act in (merge_lora_weights, lambda x: save_adapter(x, tmp_path / "a")):
        with pytest.raises(ValueError, match=f"readouts.0.linear.{factor} .* not finite") as caught:
            act(model)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists() and dict(lora_layers(model))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), before[name].nan_to_num(7.0))


def test_a_change_that_overflows() -> None:
    model = make_model()
    inject_lora(model, rank=2)
    with torch.no_grad():
        for factor in ("lora_A", "lora_B"):
            model.get_parameter(f"readouts.0.linear.{factor}").fill_(1e200)
    with pytest.raises(ValueError, match="readouts.0.linear.change"):
        merge_lora_weights(model)


def test_files_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, base = make_model(), make_model()
    inject_lora(model, rank=2)
    with torch.no_grad():
        model.get_parameter("readouts.0.linear.lora_B").fill_(NAN)
    monkeypatch.setattr("lora.adapters.saved.check_sound", lambda _: None)
    save_adapter(model, tmp_path)
    with pytest.raises(UserError, match="readouts.0.linear.lora_B is not finite"):
        load_adapter(base, tmp_path)
    assert not dict(lora_layers(base))
    assert difference(outputs(base), outputs(make_model())) == 0


# --- ranks


@pytest.fixture
def unsaid() -> Iterator[None]:
    """Warnings that other tests have caused are said again."""
    sound._warn_once.cache_clear()
    yield
    sound._warn_once.cache_clear()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [x.getMessage() for x in caplog.records if x.levelno == logging.WARNING]


@pytest.mark.usefixtures("unsaid")
def test_idle_ranks_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        inject_lora(make_model(), rank=8)
    (message,) = said(caplog)
    assert message.startswith("rank 8: above what") and "\n" not in message
    assert "largest useful rank is 4 for them and 8 for the model" in message
    assert "interactions.0.linear_up: 4" in message and "readouts.1.linear_1: 4" in message
    assert "conv_tp_weights.layer1" not in message  # 8 x 8
    caplog.clear()
    inject_lora(make_model(), rank=16)
    assert "8 for the model" in said(caplog)[0]


@pytest.mark.usefixtures("unsaid")
def test_ranks_that_layers_can_have_are_not_said(caplog: pytest.LogCaptureFixture) -> None:
    inject_lora(make_model(), rank=4)  # readouts of one energy can only have 1
    assert not said(caplog)
    inject_lora(make_model(), rank=4, targets={"include": ["readouts.0.*"]})
    assert "readouts.0.linear: 1" in said(caplog)[0]


@pytest.mark.parametrize("targets", [{}, {"skip_tp": True, "symmetric_contraction": True}])
def test_highest_rank_is_that_of_any_change(targets: dict) -> None:
    """By the ranks of the matrices that random factors of a high rank multiply to."""
    model = make_model()
    inject_lora(model, rank=30, targets=targets)
    perturb(model)
    for name, layer in lora_layers(model):
        with torch.no_grad():
            changes = layer.host.matrices(layer.delta()).values()
        ranks = [int(torch.linalg.matrix_rank(x)) for x in changes]
        assert max(ranks) == layer.host.highest_rank, name
