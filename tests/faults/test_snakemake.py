"""Faults of snakemake itself: killed with all its jobs, started twice, no room for tracking."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load

from lora.cli.status import status
from tests.support.sweep import ROOT, Sweep, unwrapped

pytestmark = pytest.mark.slow
CLOCKS = ["train_seconds", "gpu_hours", "peak_memory_mb", "atoms_per_second"]


class Short(Sweep):
    """Two points, no checks, no export."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        none: dict = {"quick": [], "standard": [], "thorough": [], "holdout_file": None}
        self.config |= {"checks": none, "export": {"engines": []}, "baselines": []}
        self.config |= {"rank_curve": False, "select": {"limits": {}}}
        self.config["train"] = {"max_num_epochs": 12, "batch_size": 3, "lr": 0.01}

    def outcome(self) -> tuple[pd.DataFrame, list[bytes]]:
        """The table without what clocks say, and the adapters."""
        out = self.home / "out"
        table = pd.read_csv(out / "report/sweep.csv")
        adapters = sorted(out.glob("train/lora_*/adapter/adapter.safetensors"))
        assert len(adapters) == 2
        return table.drop(columns=CLOCKS, errors="ignore"), [x.read_bytes() for x in adapters]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Short:
    made = Short(tmp_path_factory.mktemp("whole"))
    made.run()
    return made


def same(a: Short, b: Short) -> bool:
    (table_a, adapters_a), (table_b, adapters_b) = a.outcome(), b.outcome()
    pd.testing.assert_frame_equal(table_a, table_b)
    return adapters_a == adapters_b


def test_started_twice_and_killed_with_all_its_jobs(
    whole: Short, tmp_path: Path, told: Callable
) -> None:
    sweep = Short(tmp_path)
    running = sweep.start()
    sweep.wait_for("out/train/packs/*/checkpoint.pt")
    second = ["snakemake", "--cores", "1"]
    env = sweep.environment()
    done = subprocess.run(second, cwd=sweep.home, env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "lock" in done.stdout + done.stderr
    told("two snakemakes on one folder", 1, "the second is refused", "equal")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not list(sweep.home.glob("out/train/packs/*.json"))
    again = sweep.start()  # its lock is still there, and it says what to do
    assert again.wait(120) != 0
    assert "--unlock" in (sweep.home / "snakemake.log").read_text()
    sweep.run("--unlock")
    sweep.run()
    assert same(sweep, whole)
    told("kill -9 of snakemake and its jobs", 1, "its lock: snakemake --unlock", "equal")


# what a training imports first: faults of its points
BROKEN = """
import sys
if "train" in sys.orig_argv:
    import lora  # the copy's
    sys.path.insert(0, "{root}")
    from tests.faults.child import one_does_not_fit, steps_break
    one_does_not_fit(2)
    steps_break("{method}")
"""


def test_trainings_that_fail_stop_no_report(whole: Short, tmp_path: Path, told: Callable) -> None:
    """One of a pack has no room, another crashes: the report names both and chooses of the rest."""
    sweep = Short(tmp_path)
    sweep.config["baselines"] = ["full"]
    fault = sweep.home / "sitecustomize.py"
    fault.write_text(BROKEN.format(root=ROOT, method="full"))
    printed = sweep.run()
    table = pd.read_csv(sweep.home / "out/report/sweep.csv").set_index("point")
    ends = table["ended_by"].groupby("point").first()
    assert ends["lora_r1_a0.5_s3"] == "max_num_epochs"
    for point, why in {
        "lora_r2_a0.5_s3": "memory ran out in epoch 2 with batch_size 3",
        "full_s3": "RuntimeError: CUDA error: an illegal memory access",
    }.items():
        assert ends[point] == "failed" and table.loc[point, "rmse_f_mev_per_a"].isna().all()
        assert f"Failed, and left out of all comparisons: {point}: {why}" in unwrapped(printed)
        assert why in (sweep.home / "out/report/sweep.html").read_text()
    assert "Chosen: lora_r1_a0.5_s3." in printed and "against full" not in printed
    rows = {row["point"]: row for row in status(sweep.home / "out")}
    assert rows["full_s3"]["state"] == "failed" and "CUDA error" in rows["full_s3"]["note"]
    assert rows["lora_r1_a0.5_s3"]["state"] == "evaluated"

    fault.unlink()
    todo = sweep.todo()
    assert todo["train"] == 2 and "split" not in todo
    sweep.run()
    assert sweep.todo() == {}
    (mended, adapters), (wanted, wanted_adapters) = sweep.outcome(), whole.outcome()
    assert mended["reason"].isna().all() and "full_s3" in set(mended["point"])
    mended = mended[mended["method"] == "lora"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mended, wanted, rtol=1e-6, check_dtype=False)
    for found, expected in zip(adapters, wanted_adapters, strict=True):
        for key, value in load(expected).items():
            assert (load(found)[key] - value).abs().max() < 1e-8
    told(
        "a sweep with a crash and a point without room", 2, "in the table, with reasons", "to 1e-8"
    )


def test_no_room_for_tracking(whole: Short, tmp_path: Path, told: Callable) -> None:
    """The sweep ends well, and the next snakemake fills what was missed."""
    sweep = Short(tmp_path)
    shutil.copytree(whole.home, sweep.home, dirs_exist_ok=True)
    shutil.rmtree(sweep.home / "out/track")
    disk = sweep.home / "out/track"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        printed = sweep.run()
        assert "Chosen: " in printed and sweep.todo() == {"track": 1}
        assert "Results are safe" in (sweep.home / "out/logs/track.log").read_text()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        sweep.run()
        assert sweep.todo() == {}
        assert '"runs"' in (disk / "runs.json").read_text()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert same(sweep, whole)
    told("disk full while MLflow is filled", 1, "said, and done by the next run", "equal")
