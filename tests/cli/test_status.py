"""The state of every point, from the files that a sweep has at each stage."""

import json
import os
import time
from pathlib import Path

import pytest

from lora.cli.main import main
from lora.cli.status import as_time, status
from lora.errors import UserError
from lora.files.lock import STALE, Lock
from lora.files.sealed import write_sealed, write_text
from lora.plan.sweep import Sweep
from tests.support.results import make_sweep, write_results


def line(epoch: int, ago: float) -> dict:
    names = ("valid_loss", "valid_rmse_e_mev_per_atom", "valid_rmse_f_mev_per_a")
    numbers = dict.fromkeys(names, 100.0 - epoch)
    return {"epoch": epoch, "timestamp": time.time() - ago, **numbers}


def history(results: Path, point: str, epochs: int, pace: float = 10.0) -> None:
    lines = [line(i, pace * (epochs - i)) for i in range(epochs + 1)]
    text = "".join(json.dumps(x) + "\n" for x in lines)
    write_text(results / "train" / point / "metrics.jsonl", text)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return the folder of a sweep of two packs that has just begun: lora_s3_1 and full_s3."""
    full = {"max_num_epochs": 20, "lr": 0.001}
    config = {"train": {"max_num_epochs": 40}, "methods": {"full": full}}
    sweep = make_sweep(tmp_path, baselines=["full"], pack={"size": 2}, **config)
    assert [len(pack.points) for pack in sweep.packs.values()] == [1, 2]
    return sweep.layout.results


def of(results: Path, point: str) -> dict:
    return next(row for row in status(results) if row["point"] == point)


def test_stages(results: Path) -> None:
    assert [row["state"] for row in status(results)] == ["waiting"] * 3
    work = results / "train/packs/lora_s3_1"
    history(results, "lora_r2_a8_s3", 10)
    with Lock(work / "lock"):
        row = of(results, "lora_r2_a8_s3")
        assert (row["state"], row["epoch"], row["epochs"]) == ("training", 10, 40)
        assert row["seconds_left"] == pytest.approx(300, rel=0.01)
        assert row["rmse_f_mev_per_a"] == 90.0
        assert of(results, "lora_r4_a8_s3")["state"] == "training"
        assert of(results, "full_s3")["state"] == "waiting"
        old = time.time() - 2 * STALE  # nobody beats this lock any more
        os.utime(work / "lock", (old, old))
        assert of(results, "lora_r2_a8_s3")["state"] == "waiting"
    (work / "checkpoint.pt").write_bytes(b"")
    row = of(results, "lora_r2_a8_s3")
    assert (row["state"], row["seconds_left"]) == ("stopped", None) and "goes on" in row["note"]
    for step, state in {"train": "trained", "merge": "merged", "evaluate": "evaluated"}.items():
        write_sealed(results / step / "packs/lora_s3_1.json", {})
        assert of(results, "lora_r2_a8_s3")["state"] == state


def test_time_left_leaves_gaps_out(results: Path) -> None:
    """Ten epochs of ten seconds, a night between the fifth and the sixth."""
    history(results, "lora_r2_a8_s3", 10)
    path = results / "train/lora_r2_a8_s3/metrics.jsonl"
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    for one in lines[:6]:
        one["timestamp"] -= 8 * 3600
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    with Lock(results / "train/packs/lora_s3_1/lock"):
        row = of(results, "lora_r2_a8_s3")
        assert row["seconds_left"] == pytest.approx(300, rel=0.01)


def test_a_job_that_waits_for_ever_is_said(results: Path) -> None:
    write_sealed(results / "pending.json", {"train/lora_s3_1": "job 7 waits (JobHeldUser)"})
    row = of(results, "lora_r2_a8_s3")
    assert (row["state"], row["note"]) == ("waiting", "job 7 waits (JobHeldUser)")
    assert of(results, "full_s3")["note"] == ""


@pytest.mark.parametrize(
    ("last", "state", "note"),
    [
        ("mace-lora train: train.xyz: loss stress needs a stress", "failed", "train.xyz: loss"),
        ("torch.OutOfMemoryError: CUDA out of memory", "failed", "OutOfMemoryError: CUDA"),
        ("mace-lora train: time limit; run it again to go on", "waiting", ""),
        ("2026-11-24 INFO lora_r2_a8_s3  epoch 3/40", "waiting", ""),
    ],
)
def test_failures(results: Path, last: str, state: str, note: str) -> None:
    write_text(results / "logs/train/lora_s3_1.log", f"first line\n{last}\n")
    row = of(results, "lora_r2_a8_s3")
    assert row["state"] == state and note in row["note"]
    assert of(results, "full_s3")["state"] == "waiting"


def test_errors_of_a_trained_point_are_its_best(results: Path) -> None:
    history(results, "full_s3", 20)
    write_sealed(results / "train/full_s3/train.json", {"best_epoch": 15})
    write_sealed(results / "train/packs/full_s3.json", {})
    row = of(results, "full_s3")
    assert (row["state"], row["rmse_f_mev_per_a"], row["epochs"]) == ("trained", 85.0, 20)


def test_a_training_that_failed_is_said_with_its_reason(results: Path) -> None:
    sweep = Sweep.load(results / "plan.json")
    write_results(sweep, dict.fromkeys(sweep.points, 60.0), ["full_s3"])
    row = of(results, "full_s3")
    assert (row["state"], row["note"]) == ("failed", "memory ran out in epoch 3")
    assert of(results, "lora_r2_a8_s3")["state"] == "evaluated"


def test_a_folder_that_was_moved_is_read_where_it_is(results: Path, tmp_path: Path) -> None:
    history(results, "full_s3", 3)
    results.rename(tmp_path / "elsewhere")
    assert of(tmp_path / "elsewhere", "full_s3")["epoch"] == 3


def test_printed(results: Path, capsys: pytest.CaptureFixture) -> None:
    history(results, "full_s3", 3)
    assert main(["status", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "3 waiting" in printed and "full_s3" in printed and "3/20" in printed


def test_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan.json is missing; no sweep has begun there"):
        status(tmp_path)


def test_time() -> None:
    assert [as_time(x) for x in (None, 5, 90, 7205)] == ["", "0:05", "1:30", "2:00:05"]
