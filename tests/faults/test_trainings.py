"""Trainings that go wrong, and data at their edge: said, and the points beside them go on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from lora.data.structures import ENERGY, FORCES, write_structures
from lora.plan.settings import TrainSettings
from lora.steps.train import train, train_pack
from lora.training.state import EXPLODED
from tests.support.trainings import EPOCHS, QUICK, teacher_data, with_files

CALM = TrainSettings(rank=2, lr=0.02, **QUICK)


def far_apart(n: int) -> list[Atoms]:
    """Pairs of atoms beyond each other's reach: graphs without an edge."""
    out = []
    for i in range(n):
        atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 20 + i]])
        atoms.info[ENERGY], atoms.arrays[FORCES] = -8.0 - 0.1 * i, np.zeros((2, 3))
        out.append(atoms)
    return out


def test_a_loss_that_explodes_ends_its_point(
    inputs: dict,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    told: Callable,
) -> None:
    """A rate far too large, finite: the best epoch is kept, the point beside is untouched."""
    wild = TrainSettings(rank=2, lr=3.0, clip_grad=0.0, **QUICK)
    points = {tmp_path / "wild": wild, tmp_path / "calm": CALM}
    a, b = train_pack(points, **inputs, work=tmp_path)
    assert a["ended_by"] == "diverged" and a["epochs"] < EPOCHS
    assert a["reason"].startswith("in epoch ") and "the loss is " in a["reason"]
    assert f"over {EXPLODED:g} times the untrained model's" in caplog.text
    assert b["ended_by"] == "max_num_epochs"
    alone = train(CALM, **inputs, out=tmp_path / "alone")
    assert b["best"]["valid_loss"] == pytest.approx(alone["best"]["valid_loss"], rel=1e-8)
    told(
        "a learning rate of 3: the loss explodes",
        1,
        "diverged, in the table with its reason",
        "others equal",
    )


def test_batches_without_an_edge(inputs: dict, tmp_path: Path, told: Callable) -> None:
    """Alone in a batch, in all of them, and in the validation set."""
    settings = TrainSettings(rank=2, **QUICK | {"batch_size": 1})
    for name, train_set, valid_set in (
        ("some", teacher_data(4, seed=0) + far_apart(3), far_apart(1) + teacher_data(1, seed=1)),
        ("all", far_apart(4), far_apart(2)),
    ):
        paths = {key: tmp_path / name / f"{key}.xyz" for key in ("train", "valid")}
        for path, members in zip(paths.values(), (train_set, valid_set), strict=True):
            write_structures(path, members)
        found = train(settings, **with_files(inputs, **paths), out=tmp_path / name)
        assert found["ended_by"] == "max_num_epochs"
        assert np.isfinite(found["best"]["valid_loss"])
    told("batches without an edge", 2, "no fault", "trained")


def test_a_validation_set_of_one(inputs: dict, tmp_path: Path, told: Callable) -> None:
    one = tmp_path / "one.xyz"
    write_structures(one, teacher_data(1, seed=1))
    found = train(CALM, **with_files(inputs, valid=one), out=tmp_path / "p")
    assert found["n_valid"] == 1 and found["best_epoch"] > 0
    told("a validation set of one structure", 1, "no fault", "trained")
