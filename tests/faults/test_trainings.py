"""Trainings that go wrong, and data at their edge: said, and the points beside them go on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from torch import OutOfMemoryError

from lora.data.structures import ENERGY, FORCES, write_structures
from lora.files.sealed import Receipt, read_json
from lora.plan.finished import finished
from lora.plan.layout import Layout
from lora.plan.settings import TrainSettings
from lora.steps.train import Limits, Run, train, train_pack
from lora.tracking.run import read_run
from lora.training.loop import Fit
from lora.training.session import Session
from lora.training.state import EXPLODED
from tests.support.trainings import EPOCHS, QUICK, lines_of, same, teacher_data, with_files

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


class Pack:
    """Two points trained together, of which `a` ends earlier; what they leave is under `home`."""

    def __init__(self, home: Path, inputs: dict) -> None:
        self.home, self.inputs = home, inputs
        self.receipt = home / "pack.json"
        short = replace(CALM, max_num_epochs=1, rank=1)
        self.points = {home / "a": short, home / "b": CALM}

    def train(self, give_up: bool = False) -> list[dict]:
        """Train them, at the last try or at an earlier one."""
        run, limits = Run(receipt=Receipt(self.receipt)), Limits(give_up=give_up)
        return train_pack(self.points, **self.inputs, work=self.home, run=run, limits=limits)

    def failed(self, name: str, why: str, epochs: int) -> bool:
        """Whether a point is written down as failed, without a model."""
        result = read_json(self.home / name / "train.json")
        lines = lines_of(self.home / name)
        assert result["best"] == lines[result["best_epoch"]]
        assert result["trainable_parameters"] > 0 and result["n_train"] == 9
        assert (result["epochs"], result["reason"]) == (epochs, why) and len(lines) == epochs + 1
        return result["ended_by"] == "failed" and not (self.home / name / "adapter").exists()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices on which sessions build their models, as they do."""
    devices, build = [], Session._build

    def counted(self: Session, device: str, **more: bool) -> None:
        devices.append(device)
        build(self, device, **more)

    monkeypatch.setattr(Session, "_build", counted)
    return devices


def breaks(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the first step of an epoch crash."""
    backward = Fit._backward

    def broken(self: Fit, batch: object, group: list[int]) -> list:
        if self.points[group[0]].epoch + 1 == epoch:
            raise RuntimeError("CUDA error: an illegal memory access\nmore")
        return backward(self, batch, group)

    monkeypatch.setattr(Fit, "_backward", broken)


CRASH = "RuntimeError: CUDA error: an illegal memory access"


def test_what_had_ended_is_written_down_without_another_start(
    inputs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that takes a pass over the data could break off again."""
    pack = Pack(tmp_path, inputs)
    pack.points = {x: replace(one, start="gradient") for x, one in pack.points.items()}
    breaks(monkeypatch, epoch=3)
    with pytest.raises(RuntimeError):
        pack.train()
    monkeypatch.setattr(Session, "resume", lambda _: 1 / 0)
    monkeypatch.setattr("lora.training.starts.loss_of", lambda *_: 1 / 0)
    pack.train(give_up=True)
    assert finished(pack.receipt) == ["a"]


def test_a_crash_is_written_down_from_the_checkpoint(
    inputs: dict,
    tmp_path: Path,
    built: list[str],
    monkeypatch: pytest.MonkeyPatch,
    told: Callable,
) -> None:
    """No model is built for it; what ended before the crash is kept; then all as undisturbed."""
    whole = Pack(tmp_path / "whole", inputs)
    whole.train()
    built.clear()
    for name, epoch, left in (("both", 1, []), ("one", 3, ["a"])):
        pack = Pack(tmp_path / name, inputs)
        with monkeypatch.context() as patch:
            breaks(patch, epoch)
            with pytest.raises(RuntimeError):
                pack.train()
            assert not pack.receipt.exists()
            for folder in pack.points:  # of an earlier training with other settings
                (folder / "adapter").mkdir()
            pack.train(give_up=True)
        assert built == ["cpu", "cpu", *(["cpu"] if left else [])]  # each try, and what had ended
        built.clear()
        assert finished(pack.receipt) == left
        assert pack.failed("b", CRASH, epoch - 1)
        assert same(whole.home / "a", pack.home / "a") if left else pack.failed("a", CRASH, 0)
        assert read_json(pack.home / "failed.json")["times"] == 1
        pack.train()  # from the checkpoint
        assert all(same(whole.home / x, pack.home / x) for x in "ab")
        assert finished(pack.receipt) == ["a", "b"]
        built.clear()
    told("a crash at the last try, before and after a point ended", 2, "marked failed", "equal")


def test_a_crash_after_a_point_had_no_room(
    inputs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is written down with its own reason, and MLflow gets it."""
    pack = Pack(tmp_path / "train", inputs)
    breaks(monkeypatch, epoch=3)
    backward = Fit._backward

    def no_room(self: Fit, batch: object, group: list[int]) -> list:
        if self.points[group[0]].epoch == 0 and 1 in [self.points[i].settings.rank for i in group]:
            raise OutOfMemoryError("full")
        return backward(self, batch, group)

    monkeypatch.setattr(Fit, "_backward", no_room)
    pack.train(give_up=True)
    why = "memory ran out in epoch 1 with batch_size 3, valid_batch_size 32; lower them"
    assert pack.failed("a", why, 0) and pack.failed("b", CRASH, 2)
    assert finished(pack.receipt) == []
    run = read_run(Layout(tmp_path), "b", chosen=False)
    assert run.tags["failed"] == CRASH
    assert [x.name for x in run.files] == ["train.json", "metrics.jsonl"]
    assert max(epoch for *_, epoch in run.metrics) == 2  # what it measured while it trained
    assert not any("mae" in name for name, *_ in run.metrics)  # those of an evaluation


@pytest.mark.parametrize("where", ["validate", "read"])
def test_a_crash_before_the_first_checkpoint_is_written_down(
    where: str, inputs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable
) -> None:
    """No epoch, no model, a reason; and the next start trains it as if nothing had been."""
    pack = Pack(tmp_path / "pack", inputs)
    with monkeypatch.context() as patch:
        owner, name = {"validate": (Fit, "_validate"), "read": (Session, "_set_keys")}[where]
        patch.setattr(owner, name, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack.train()
        assert not pack.receipt.exists()
        pack.train(give_up=True)
    assert finished(pack.receipt) == []
    for point in "ab":
        result = read_json(pack.home / point / "train.json")
        assert (result["ended_by"], result["epochs"]) == ("failed", 0)
        assert result["reason"] == "ZeroDivisionError: division by zero"
        assert lines_of(pack.home / point) == [] and "best" not in result
    pack.train()
    assert finished(pack.receipt) == ["a", "b"]
    told(f"a crash before the first checkpoint ({where})", 1, "marked failed", "trained")


def test_memory_runs_out_before_the_first_epoch(
    inputs: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one point alone, on a CPU: the other is trained."""
    pack, outputs = Pack(tmp_path, inputs), Fit._outputs

    def no_room(self: Fit, batch: object, group: list[int], training: bool) -> list:
        if 1 in [self.points[i].settings.rank for i in group]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return outputs(self, batch, group, training)

    monkeypatch.setattr(Fit, "_outputs", no_room)
    pack.train(give_up=True)
    result = read_json(pack.home / "a/train.json")
    assert result["reason"].startswith("memory ran out before the first epoch with batch_size 3")
    assert result["ended_by"] == "failed" and finished(pack.receipt) == ["b"]
