"""Trainings that start from a cut: the start is the truncated adapter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lora import load_adapter
from lora.adapters.full_layout import full_values, trimmed_values
from lora.adapters.inject import inject_lora, lora_layers
from lora.data.structures import FORCES, load_structures
from lora.errors import UserError
from lora.files.sealed import read_json
from lora.mace.elements import trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.origin import origin_of
from lora.mace.predict import predict
from lora.plan.commands import Limits, Part
from lora.plan.settings import TrainSettings
from lora.plan.targets import Targets
from lora.steps.train import train_pack
from lora.steps.truncate import truncate
from tests.support.models import make_model, perturb
from tests.support.trainings import lines_of

WHOLE = TrainSettings(
    rank=4,
    alpha=8.0,
    lr=0.02,
    batch_size=3,
    max_num_epochs=4,
    targets=Targets(skip_tp=True, symmetric_contraction=True),
)
POLISH = {"max_num_epochs": 2, "lr": 0.002}


def scaling_of(folder: Path) -> str:
    return str(read_json(folder / "train.json")["settings"]["scaling"])


def polish(inputs: dict, out: Path, source: Path, *ranks: int, **own: object) -> list[Path]:
    """Polish cuts of an adapter in one pack; return their folders."""
    points = {out / f"cut{x}": replace(WHOLE, rank=x, **(POLISH | own)) for x in ranks}
    part = Part(take=True, cut=dict.fromkeys(points, source / "adapter"))
    train_pack(points, **inputs, work=out / "work", limits=Limits(part=part))
    return list(points)


@pytest.fixture(scope="module", params=["mace", "rank_stable", "pissa"])
def whole(
    inputs: dict, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A training of the highest rank."""
    out = tmp_path_factory.mktemp("whole")
    pissa = request.param == "pissa"
    own = {"start": "pissa", "lr": 0.004} if pissa else {"scaling": request.param}
    settings = replace(WHOLE, **own)
    train_pack({out / "top": settings}, **inputs, work=out / "work")
    return out / "top"


def test_the_start_is_the_truncated_adapter(inputs: dict, whole: Path, tmp_path: Path) -> None:
    """Epoch 0 has the error of the adapter that the step `truncate` makes of the same."""
    folders = polish(inputs, tmp_path, whole, 1, 2, scaling=scaling_of(whole))
    valid = load_structures(inputs["files"].valid)
    errors = []
    for rank, folder in zip((1, 2), folders, strict=True):
        truncate(inputs["base"], whole / "adapter", tmp_path / f"{rank}", rank=rank)
        model = load_foundation(inputs["base"].model, None, torch.float64)
        load_adapter(model, tmp_path / f"{rank}" / "adapter")
        forces = predict(model, graphs(valid, model))["forces"]
        wanted = np.concatenate([x.arrays[FORCES] for x in valid])
        errors.append(1e3 * float(np.sqrt(np.mean((np.asarray(forces) - wanted) ** 2))))
        lines = lines_of(folder)
        assert lines[0]["valid_rmse_f_mev_per_a"] == pytest.approx(errors[-1], rel=1e-9)
        assert len(lines) == 3 and lines[2]["valid_loss"] != lines[0]["valid_loss"]
    base = lines_of(whole)[0]["valid_rmse_f_mev_per_a"]
    assert abs(errors[0] - errors[1]) > 1e-3 * errors[0] and max(errors) < 0.99 * base


def test_another_source_is_another_training(inputs: dict, whole: Path, tmp_path: Path) -> None:
    """What an earlier run has left is taken for the same adapter alone."""
    (folder,) = polish(inputs, tmp_path, whole, 2)
    stamps = [x["timestamp"] for x in lines_of(folder)]
    polish(inputs, tmp_path, whole, 2)
    assert [x["timestamp"] for x in lines_of(folder)] == stamps
    train_pack({tmp_path / "top": replace(WHOLE, seed=9)}, **inputs, work=tmp_path / "top_work")
    polish(inputs, tmp_path, tmp_path / "top", 2)
    assert [x["timestamp"] for x in lines_of(folder)] != stamps


def test_without_a_source_there_is_no_start(inputs: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        polish(inputs, tmp_path, tmp_path / "nobody", 2)


def test_a_full_layout_and_back() -> None:
    """Rows of elements are spread over those of the full base, and found there again."""
    model = trim_elements(make_model(), [1, 6])
    inject_lora(model, rank=3, targets={"skip_tp": True, "symmetric_contraction": True})
    perturb(model)
    origin, spread = origin_of(model), 0
    for name, layer in lora_layers(model):
        full = full_values(model, origin, name, layer)
        spread += any(x.numel() != layer.get_parameter(key).numel() for key, x in full.items())
        for key, value in trimmed_values(model, origin, name, layer, full).items():
            assert torch.allclose(value.view_as(layer.get_parameter(key)), layer.values()[key])
    assert spread >= 3


def test_the_saved_adapter_has_the_lower_rank(inputs: dict, whole: Path, tmp_path: Path) -> None:
    (folder,) = polish(inputs, tmp_path, whole, 2)
    one, other = (load_file(x / "adapter/adapter.safetensors") for x in (folder, whole))
    assert one.keys() == other.keys()
    start = read_json(whole / "train.json")["settings"]["start"]
    share = 4 if start == "pissa" else 2  # it has frozen columns, which a cut has not
    assert all(share * one[x].numel() == other[x].numel() for x in one)
