"""Training: it learns, keeps the best weights, resumes exactly, and says what it did."""

import copy
import logging
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from lora import load_adapter, load_foundation
from lora.catalogue.methods import ADAPTERS
from lora.data.labels import reference
from lora.data.structures import ENERGY, load_structures, write_structures
from lora.errors import UserError
from lora.mace.graphs import graphs
from lora.mace.modules import count_parameters
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.settings import Targets, TrainSettings
from lora.steps.merge import merge
from lora.steps.train import train, train_pack
from lora.training.loop import Fit
from lora.training.setup import nested, prepare
from lora.training.state import TrainingState
from lora.training.trainees import Single
from tests.support import counts
from tests.support.models import BASE, make_model
from tests.support.trainings import EPOCHS, QUICK, lines_of, teacher_data, with_files

SCHEDULERS = ["constant", "ReduceLROnPlateau", "ExponentialLR", "CosineAnnealingLR"]
ROWS = counts.covering(SCHEDULERS, ["lora", "full"])


@pytest.mark.parametrize("method", [*ADAPTERS, "full", "freeze"])
def test_a_point_from_files_to_files(
    files: dict, inputs: dict, tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = TrainSettings(method=method, lr=0.02, rank=2, **QUICK)
    record = train(settings, **inputs, out=tmp_path / "p")
    lines = lines_of(tmp_path / "p")
    assert [line["epoch"] for line in lines] == list(range(EPOCHS + 1))
    assert min(x["valid_loss"] for x in lines) < 0.9 * lines[0]["valid_loss"]
    assert record["best"] == min(lines, key=lambda x: x["valid_loss"])
    assert not (tmp_path / "p/checkpoint.pt").exists()

    model = load_foundation(files["foundation"])  # what was written predicts what was measured
    card = load_adapter(model, tmp_path / "p/adapter")
    assert card["E0s"].keys() == {"H", "C", "O"}
    valid = teacher_data(4, seed=1)
    out, truth = predict(model, graphs(valid, model)), reference(valid)
    rmse = 1e3 * np.sqrt(np.mean((out["forces"] - truth["forces"]) ** 2))
    assert rmse == pytest.approx(record["best"]["valid_rmse_f_mev_per_a"], rel=1e-8)

    counted = make_model()
    before = sum(p.numel() for p in counted.parameters())
    trainable, total = record["trainable_parameters"], record["total_parameters"]
    if method in ADAPTERS:
        assert 0 < trainable < total and total == record["parameters_before"] + trainable
    elif method == "full":
        assert trainable == total == record["parameters_before"] < before
    else:
        assert 0 < trainable < total == record["parameters_before"]
        assert not any("interactions" in name for name in card["layers"])
        assert any("readouts" in name for name in card["layers"])
    assert f"{method}: {trainable} of {total} parameters train" in caplog.text


WHOLE = Targets(modules_to_save=("readouts.1", "products.0"))


def test_whole_modules_from_files_to_a_merged_model(
    files: dict, inputs: dict, tmp_path: Path
) -> None:
    """They train, stop and resume with the adapter, and come out of the merged file."""
    settings = TrainSettings(lr=0.02, rank=2, targets=WHOLE, **QUICK)
    record = train(settings, **inputs, out=tmp_path / "p")
    model, base = load_foundation(files["foundation"]), load_foundation(files["foundation"])
    load_adapter(model, tmp_path / "p/adapter")
    merge(
        Base(files["foundation"]),
        files["valid_file"],
        {tmp_path / "m/p.model": tmp_path / "p/adapter"},
    )
    merged = load_foundation(tmp_path / "m/p.model")
    valid = teacher_data(4, seed=1)
    truth = reference(valid)
    for one in (model, merged):
        out = predict(one, graphs(valid, one))
        rmse = 1e3 * np.sqrt(np.mean((out["forces"] - truth["forces"]) ** 2))
        assert rmse == pytest.approx(record["best"]["valid_rmse_f_mev_per_a"], rel=1e-8)
        for name in ("readouts.1.linear_1.weight", "products.0.linear.weight"):
            assert (one.get_parameter(name) - base.get_parameter(name)).abs().max() > 1e-3
    plain = train(replace(settings, targets=Targets()), **inputs, out=tmp_path / "q")
    assert record["best"]["valid_loss"] < plain["best"]["valid_loss"]
    assert record["trainable_parameters"] != plain["trainable_parameters"]


def test_whole_modules_train_in_no_pack(inputs: dict, tmp_path: Path) -> None:
    one = TrainSettings(rank=2, targets=WHOLE, **QUICK)
    points = {tmp_path / "a": one, tmp_path / "b": replace(one, rank=1)}
    with pytest.raises(UserError, match="targets.modules_to_save has weights of its own"):
        train_pack(points, work=tmp_path / "w", **inputs)
    with pytest.raises(UserError, match="modules_to_save and enable_cueq"):
        replace(one, enable_cueq=True).resolved()


@pytest.mark.long
@pytest.mark.parametrize(("scheduler", "method"), ROWS, ids=counts.named(ROWS))
def test_resumed_equals_undisturbed(
    inputs: dict, tmp_path: Path, scheduler: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = WHOLE if (method, scheduler) == ("lora", "constant") else Targets()
    settings = TrainSettings(
        method=method,
        rank=2,
        scheduler=scheduler,
        scheduler_patience=0,
        targets=targets,
        **QUICK,
    )
    whole = train(settings, **inputs, out=tmp_path / "whole")

    class Killed(BaseException):
        pass

    original = Fit._train_epoch

    def dies_in_the_third(self: Fit, *args: object) -> list[float]:
        result = original(self, *args)  # the weights have moved, nothing is saved yet
        if self.points[0].epoch == 2:
            raise Killed
        return result

    monkeypatch.setattr(Fit, "_train_epoch", dies_in_the_third)
    with pytest.raises(Killed):
        train(settings, **inputs, out=tmp_path / "killed")
    assert len(lines_of(tmp_path / "killed")) == 3
    epochs_run = []

    def counted(self: Fit, *args: object) -> list[float]:
        epochs_run.append(self.points[0].epoch + 1)
        return original(self, *args)

    monkeypatch.setattr(Fit, "_train_epoch", counted)
    resumed = train(settings, **inputs, out=tmp_path / "killed")
    assert epochs_run == [3, 4]
    clock = ("seconds", "timestamp", "system")
    for a, b in zip(lines_of(tmp_path / "whole"), lines_of(tmp_path / "killed"), strict=True):
        assert {k: v for k, v in a.items() if k not in clock} == {
            k: v for k, v in b.items() if k not in clock
        }
    assert whole["best_epoch"] == resumed["best_epoch"]
    tensors = [
        (tmp_path / x / "adapter/adapter.safetensors").read_bytes() for x in ("whole", "killed")
    ]
    assert tensors[0] == tensors[1]


def test_a_checkpoint_of_other_settings_is_not_taken(files: dict, tmp_path: Path) -> None:
    model = make_model()
    prepare(model, TrainSettings(rank=2))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    data = graphs(teacher_data(4, seed=1), model)

    def fit(key: str) -> Fit:
        point = TrainingState(trained, TrainSettings(rank=2).resolved())
        return Fit(Single(model), [point], data, data, [key])

    fit("one").save(tmp_path / "c.pt")
    assert fit("one").resume(tmp_path / "c.pt") == 1
    assert fit("another").resume(tmp_path / "c.pt") == 0
    (tmp_path / "c.pt").write_bytes(b"half a file")
    assert fit("one").resume(tmp_path / "c.pt") == 0


def test_early_stop_and_best_weights(files: dict, inputs: dict, tmp_path: Path) -> None:
    """With a rate that ruins the model the best epoch is an early one, and it is what is kept."""
    settings = TrainSettings(method="full", lr=0.5, batch_size=9, patience=2, ema=False, seed=1)
    record = train(settings, **inputs, out=tmp_path / "p")
    assert record["ended_by"] == "patience"
    assert record["epochs"] == record["best_epoch"] + 2
    model = load_foundation(files["foundation"])
    load_adapter(model, tmp_path / "p/adapter")
    valid = teacher_data(4, seed=1)
    out, truth = predict(model, graphs(valid, model)), reference(valid)
    rmse = 1e3 * np.sqrt(np.mean((out["forces"] - truth["forces"]) ** 2))
    best = lines_of(tmp_path / "p")[record["best_epoch"]]
    assert rmse == pytest.approx(best["valid_rmse_f_mev_per_a"], rel=1e-8)


def test_the_moving_average_is_what_is_validated_and_kept(
    files: dict, inputs: dict, tmp_path: Path
) -> None:
    """One step from zero: B is lr * sign(gradient), its average after one update is known."""
    settings = TrainSettings(rank=1, lr=0.01, ema_decay=0.5, batch_size=9, max_num_epochs=1)
    kept = {}
    for name, ema in (("raw", False), ("averaged", True)):
        own = replace(settings, ema=ema, scheduler="constant")
        train(own, **inputs, out=tmp_path / name)
        model = load_foundation(files["foundation"])
        load_adapter(model, tmp_path / name / "adapter")
        kept[name] = model.get_parameter("interactions.0.linear_up.lora_B").detach()
    # torch-ema warms up: decay = min(0.5, (1 + 1) / (10 + 1)) at its first update
    decay = min(0.5, 2 / 11)
    assert kept["raw"].abs().max() > 1e-3
    assert torch.allclose(kept["averaged"], (1 - decay) * kept["raw"], rtol=1e-10)


def test_losses_are_maces(files: dict) -> None:
    from lora.mace.door import upstream

    expected = {
        "weighted": "WeightedEnergyForcesLoss",
        "forces_only": "WeightedForcesLoss",
        "stress": "WeightedEnergyForcesStressLoss",
        "huber": "WeightedHuberEnergyForcesStressLoss",
        "universal": "UniversalLoss",
        "l1l2energyforces": "WeightedEnergyForcesL1L2Loss",
    }
    for name, cls in expected.items():
        settings = TrainSettings(loss=name, energy_weight=2.0, forces_weight=0.3).resolved()
        prepare(model := copy.deepcopy(make_model(BASE)), settings)
        loss = TrainingState(dict(model.named_parameters()), settings).loss
        loss = getattr(loss, "loss", loss)  # inside of the weights of structures
        assert type(loss) is getattr(upstream("mace.modules"), cls)
        assert float(loss.forces_weight) == 0.3  # in float64, as the model


def test_seed_and_order_matter(inputs: dict, tmp_path: Path) -> None:
    losses = []
    for seed in (3, 3, 4):
        settings = TrainSettings(rank=2, seed=seed, **QUICK | {"max_num_epochs": 1})
        losses.append(
            train(settings, **inputs, out=tmp_path / f"{len(losses)}")["best"]["valid_loss"]
        )
    assert losses[0] == losses[1] != losses[2]


def test_a_point_that_diverges_leaves_the_others_alone(
    files: dict, inputs: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends with its best epoch, says why, and the point beside it trains as it does alone."""
    common = {"rank": 2, **QUICK}
    wild = TrainSettings(lr=1e80, clip_grad=0.0, **common)
    points = {tmp_path / "wild": wild, tmp_path / "calm": TrainSettings(lr=0.02, **common)}
    a, b = train_pack(points, **inputs, work=tmp_path)
    assert a["ended_by"] == "diverged" and a["best_epoch"] < a["epochs"] + 1 < EPOCHS + 1
    assert f"its best epoch {a['best_epoch']} is kept; lower lr (1e+80)" in caplog.text
    alone = train(TrainSettings(lr=0.02, **common), **inputs, out=tmp_path / "alone")
    assert b["ended_by"] == "max_num_epochs"
    for key in ("valid_loss", "valid_rmse_f_mev_per_a"):
        assert b["best"][key] == pytest.approx(alone["best"][key], rel=1e-8)
    model = load_foundation(files["foundation"])
    load_adapter(model, tmp_path / "wild/adapter")
    assert all(p.isfinite().all() for p in model.parameters())


def test_data_that_are_not_finite_are_said(inputs: dict, tmp_path: Path) -> None:
    broken = teacher_data(4, seed=1)
    broken[2].info[ENERGY] = np.inf
    write_structures(tmp_path / "valid.xyz", broken)
    with pytest.raises(UserError, match="untrained model is not finite; look at the data"):
        own = with_files(inputs, valid=tmp_path / "valid.xyz")
        train(TrainSettings(rank=2, **QUICK), **own, out=tmp_path / "p")


def test_stress_loss_needs_stress(inputs: dict, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="train.xyz: the loss stress needs stress, and no structure"
    ):
        train(TrainSettings(loss="stress", **QUICK), **inputs, out=tmp_path / "p")


def test_method_defaults_and_bounds() -> None:
    lora, full = TrainSettings().resolved(), TrainSettings(method="full").resolved()
    assert (lora.lr, lora.ema_decay, lora.clip_grad) == (1e-2, 0.99, 10.0)
    assert (full.lr, full.ema_decay, full.clip_grad) == (1e-3, 0.999, 1.0)
    assert TrainSettings(lr=0.5).resolved().lr == 0.5
    bad = {
        "method": ("lorra", "is not one of lora, dora, sparse, full, freeze; did you mean lora?"),
        "rank": (0, "rank: 0 must be at least 1"),
        "lr": (0.0, "lr: 0.0 must be above 0"),
        "ema_decay": (1.0, "ema_decay: 1.0 must be above 0 and below 1"),
        "forces_weight": (-1.0, "forces_weight: -1.0 must be at least 0"),
        "freeze_level": (3, "freeze_level: 3 is not one of 1, 5, 6"),
    }
    for name, (value, message) in bad.items():
        with pytest.raises(UserError, match=re.escape(message)):
            TrainSettings(**{name: value}).resolved()


def test_freeze_levels() -> None:
    counts = []
    for level in (1, 5, 6):
        model = make_model()
        prepare(model, TrainSettings(method="freeze", freeze_level=level))
        counts.append(count_parameters(model)[0])
    assert counts[0] > counts[1] > counts[2] > 0


def test_shares_of_the_training_set_are_nested_and_differ_by_seed() -> None:
    structures = [Atoms("H", [[i, 0, 0]]) for i in range(40)]

    def chosen(fraction: float, seed: int) -> list[float]:
        return [a.positions[0, 0] for a in nested(structures, fraction, seed)]

    shares = [chosen(f, seed=3) for f in (0.1, 0.25, 0.5, 1.0)]
    assert [len(x) for x in shares] == [4, 10, 20, 40]
    for small, large in pairwise(shares):
        assert set(small) < set(large) and small == sorted(small)
    assert chosen(0.25, seed=4) != shares[1]
    assert len(chosen(0.001, seed=4)) == 1


def test_a_share_of_the_data_is_trained_on(files: dict, inputs: dict, tmp_path: Path) -> None:
    """Equal to training on a file of those structures; a pack needs one share."""
    whole = TrainSettings(rank=2, **QUICK)
    half = replace(whole, train_fraction=0.5)
    assert train(half, out=tmp_path / "half", **inputs)["n_train"] == 5
    chosen = nested(load_structures(files["train_file"]), 0.5, half.seed)
    write_structures(tmp_path / "half.xyz", chosen)
    train(whole, out=tmp_path / "alone", **with_files(inputs, train=tmp_path / "half.xyz"))
    losses = [[x["valid_loss"] for x in lines_of(tmp_path / n)] for n in ("half", "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    with pytest.raises(
        UserError, match="pack: points that train together need the same train_fraction"
    ):
        train_pack({tmp_path / "a": whole, tmp_path / "b": half}, work=tmp_path / "w", **inputs)
    with pytest.raises(UserError, match=r"train_fraction: 1\.5 must be above 0 and at most 1"):
        replace(whole, train_fraction=1.5).resolved()
