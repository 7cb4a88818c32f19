"""The state of every point, from the files that a sweep has at each stage."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from lora.cli.main import main
from lora.cli.stages import of_point, steps
from lora.cli.status import as_time, status
from lora.errors import UserError
from lora.files.lock import STALE, Lock
from lora.files.sealed import write_sealed, write_text
from lora.plan.layout import Layout
from lora.plan.queue import Queue, Submission
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


def submitted(results: Path, *jobs: Submission, watched: bool = True) -> None:
    """Write down what a cluster was given, as the executor does."""
    Queue({x.number: x for x in jobs}, watched=watched).write(Layout(results))


def test_a_job_that_waits_for_ever_is_said(results: Path) -> None:
    note = "job 7 waits (JobHeldUser)"
    submitted(results, Submission("7", ("train/lora_s3_1",), "PENDING", "JobHeldUser", note))
    row = of(results, "lora_r2_a8_s3")
    assert (row["state"], row["note"]) == ("waiting", "job 7 waits (JobHeldUser)")
    assert row["queue"] == "pending (job 7, JobHeldUser)"
    assert of(results, "full_s3")["note"] == of(results, "full_s3")["queue"] == ""


def test_pack_job_and_what_comes_after_a_training(results: Path) -> None:
    """Merge, evaluate and check are one job of the cluster; the steps know where each is."""
    write_sealed(results / "train/packs/lora_s3_1.json", {})
    judging = tuple(f"{x}/lora_s3_1" for x in ("merge", "evaluate", "check"))
    submitted(
        results,
        Submission("7", ("train/lora_s3_1",), "ENDED", log="slurm_logs/7.log"),
        Submission("8", judging, "RUNNING", log="slurm_logs/8.log"),
        Submission("9", ("train/full_s3",), "PENDING", "Priority"),
    )
    row = of(results, "lora_r2_a8_s3")
    assert (row["state"], row["pack"]) == ("trained", "lora_s3_1")
    assert (row["queue"], row["note"]) == ("running (job 8)", "")
    assert of(results, "full_s3")["queue"] == "pending (job 9, Priority)"
    write_text(results / "logs/export.log", "mace-lora export: no engine is installed\n")
    found = {row["step"]: row for row in steps(Sweep.load(results / "plan.json"))}
    assert (found["train"]["done"], found["train"]["jobs"]) == (1, 2)
    assert found["train"]["states"] == "1 pending"
    assert found["check"]["states"].startswith("1 running, ")
    assert found["export"]["states"] == "1 failed"
    assert found["export"]["note"] == "export: no engine is installed"
    assert found["track"]["states"] == "1 waiting"
    assert "replay" not in found and "truncate" not in found  # not of this sweep


def test_logs_are_found_by_the_name_of_a_point(
    results: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    write_text(results / "logs/train/lora_s3_1.log", "epoch 1\n")
    log = str(tmp_path / "slurm_logs/rule_train/lora_s3_1/7.log")
    submitted(results, Submission("7", ("train/lora_s3_1",), "RUNNING", log=log))
    rows = {row["job"]: row for row in of_point(Sweep.load(results / "plan.json"), "lora_r2_a8_s3")}
    assert list(rows) == [f"{x}/lora_s3_1" for x in ("train", "merge", "evaluate", "check")]
    assert rows["train/lora_s3_1"]["cluster_log"] == log
    assert main(["status", str(results), "lora_r2_a8_s3"]) == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert str(results / "logs/train/lora_s3_1.log") in printed and log in printed
    assert main(["status", str(results), "lora_r9"]) == 2
    assert "has no point lora_r9; it has " in capsys.readouterr().err


def test_nothing_trains_after_a_kill(results: Path) -> None:
    """Neither where the process was one of this machine, nor where its job waits in the queue."""
    lock = results / "train/packs/lora_s3_1/lock"
    with Lock(lock):
        content = lock.read_text()
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock.write_text(json.dumps(json.loads(content) | {"pid": gone.pid}))
    assert of(results, "lora_r2_a8_s3")["state"] == "waiting"
    lock.write_text(json.dumps(json.loads(content) | {"where": "another machine"}))
    assert of(results, "lora_r2_a8_s3")["state"] == "training"
    submitted(results, Submission("7", ("train/lora_s3_1",), "PENDING", "Resources"))
    row = of(results, "lora_r2_a8_s3")
    assert (row["state"], row["queue"]) == ("waiting", "pending (job 7, Resources)")
    later = time.time() + 5  # it has begun since somebody looked at the queue
    os.utime(lock, (later, later))
    assert of(results, "lora_r2_a8_s3")["state"] == "training"


def test_a_queue_that_nobody_looks_at(results: Path, capsys: pytest.CaptureFixture) -> None:
    """After a kill what is known is old, and said to be."""
    submitted(results, Submission("7", ("train/lora_s3_1",), "RUNNING"), watched=False)
    assert main(["status", str(results)]) == 0
    assert "no snakemake has looked since" in capsys.readouterr().out.replace("\n", " ")


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
