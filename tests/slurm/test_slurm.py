"""The literal `snakemake --profile slurm` on a real Slurm, and what nights on a cluster bring."""

import json
import os
import re
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.lora.test_stop import same
from tests.slurm.cluster import NODES, Cluster, install, output, wait_for
from tests.workflow.test_sweep import ROOT, Sweep

pytestmark = pytest.mark.slow
POINT = "lora_r1_a0.5_s3"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if why := install():
        warnings.warn(f"tests/slurm DID NOT RUN: {why}", stacklevel=1)
        pytest.skip(why)
    made = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


class SlurmSweep(Sweep):
    """A clone whose profile was filled in as docs/cluster.md says."""

    def __init__(self, home: Path, **resources: str) -> None:
        super().__init__(home)
        shutil.copytree(ROOT / "slurm", home / "slurm")
        path = home / "slurm/config.yaml"
        text = re.sub(r"  slurm_account: FILL_IN.*\n", "", path.read_text())
        profile = yaml.safe_load(text.replace("slurm_partition: FILL_IN", "slurm_partition: gpu"))
        profile["set-resources"]["train"] |= resources
        profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
        # a person can wait forty seconds for the first look at a job
        profile |= {
            "slurm-init-seconds-before-status-checks": 1,
            "seconds-between-status-checks": 1,
        }
        path.write_text(yaml.safe_dump(profile))

    def one_point(self, epochs: int) -> None:
        self.config["grid"] = {"rank": [1], "alpha": [0.5]}
        self.config |= {"baselines": [], "rank_curve": False, "pack": {"size": 1}}
        self.config["train"] = {"max_num_epochs": epochs, "patience": epochs, "batch_size": 3}

    def start(self, *args: str) -> subprocess.Popen:
        """The command in the background; what it prints goes to `printed`."""
        (self.home / "config/config.yaml").write_text(yaml.safe_dump(self.config))
        own = {"PYTHONPATH": str(self.home), "OMP_NUM_THREADS": "1"}
        with (self.home / "printed").open("a") as printed:
            return subprocess.Popen(
                ["snakemake", "--profile", "slurm", *args],
                cwd=self.home,
                env=os.environ | own,
                stdout=printed,
                stderr=printed,
            )

    def finish(self, process: subprocess.Popen, seconds: float = 420) -> str:
        """Wait for its good end."""
        code = process.wait(seconds)
        printed = (self.home / "printed").read_text()
        assert code == 0, printed[-6000:]
        return printed

    def epochs(self) -> int:
        path = self.home / "out/train" / POINT / "metrics.jsonl"
        return len(path.read_text().splitlines()) - 1 if path.is_file() else -1

    def slurm_job(self) -> str:
        """The id of the training job that runs now."""
        lines = output("squeue", "-h", "-t", "R", "-o", "%i %Z %k").splitlines()
        found = [x.split()[0] for x in lines if str(self.home) in x and "rule_train" in x]
        return found[0] if found else ""


def test_the_profile_says_what_is_missing(tmp_path: Path) -> None:
    """Before anything is submitted, and so where no Slurm is."""
    sweep = Sweep(tmp_path / "clone")
    shutil.copytree(ROOT / "slurm", sweep.home / "slurm")
    (sweep.home / "config/config.yaml").write_text(yaml.safe_dump(sweep.config))
    done = subprocess.run(
        ["snakemake", "--profile", "slurm"], cwd=sweep.home, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "default-resources: slurm_account is not filled in" in done.stderr
    assert not (sweep.home / "out").exists()


def test_a_sweep_equals_a_local_one(cluster: Cluster, tmp_path: Path) -> None:
    """All trainings on nodes with a GPU, nothing of it here; the same table to the last digits."""
    local, remote = Sweep(tmp_path / "local"), SlurmSweep(tmp_path / "remote")
    printed = remote.finish(remote.start())
    assert "plan: 3 points to train in 2 jobs, a GPU each" in printed
    local.run()
    tables = [
        pd.read_csv(sweep.home / "out/report/sweep.csv").set_index(["point", "test_set"])
        for sweep in (local, remote)
    ]
    numbers = [t.filter(regex="rmse|mae").sort_index() for t in tables]
    assert numbers[0].notna().all(axis=None) and len(numbers[0]) == 15
    pd.testing.assert_frame_equal(*numbers, rtol=1e-6)
    logs = list((remote.home / "slurm_logs/rule_train").rglob("*.log"))
    assert len(logs) == 2
    ran = {job["JobId"]: job for job in cluster.jobs()}
    for log in logs:
        assert ran[log.stem]["NodeList"] in NODES
        assert ran[log.stem]["JobState"] == "COMPLETED"
        assert "gres/gpu=1" in ran[log.stem]["Tres"] or "gpu" in str(ran[log.stem])
    minutes = json.loads((remote.home / "out/train/minutes.json").read_text())
    assert set(minutes.values()) == {240}
    # now that points are trained, their times are known
    remote.config["grid"]["rank"] = [1, 2, 3]
    process = remote.start("--dry-run")
    printed = remote.finish(process)
    assert re.search(r"plan: 1 points to train in 1 jobs.* about 0\.0 GPU hours", printed)


EPOCHS = 150


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = SlurmSweep(tmp_path_factory.mktemp("undisturbed"))
    sweep.one_point(EPOCHS)
    sweep.run("--until", "train")
    return sweep.home / "out/train" / POINT


def test_cancelled(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    sweep = begun(tmp_path)
    subprocess.run(["scancel", sweep.slurm_job()], check=True)
    check(sweep, undisturbed, tries=2)


def test_over_its_memory(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """Killed by Slurm, tried again with more."""
    sweep = SlurmSweep(tmp_path / "clone", mem_mb="400 * attempt")
    sweep.one_point(EPOCHS)
    sweep.process = sweep.start("--until", "train")
    check(sweep, undisturbed, tries=None)
    logs = list((sweep.home / "slurm_logs/rule_train").rglob("*.log"))
    assert len(logs) > 1


def test_preempted(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """Requeued by Slurm itself, under the same number."""
    sweep = begun(tmp_path)
    job = sweep.slurm_job()
    command = ["sbatch", "-p", "high", "-N", "3", "--exclusive", "-o", "/dev/null"]
    subprocess.run([*command, "--wrap", "sleep 2"], check=True, capture_output=True)
    wait_for(lambda: sweep.slurm_job() != job, "the preemption")
    check(sweep, undisturbed, tries=1)


def test_a_node_goes_down(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """Slurm starts the job elsewhere while the first still runs, unseen: no two at once."""
    sweep = begun(tmp_path)
    node = output("squeue", "-h", "-j", sweep.slurm_job(), "-o", "%N").strip()
    cluster.kill(node)
    try:
        check(sweep, undisturbed, tries=None)
    finally:
        cluster.start_node(node)
        cluster.wait_until_idle()


def test_snakemake_killed_while_jobs_run(
    cluster: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    """Started again it submits a second job, which waits for the first and trains nothing."""
    sweep = begun(tmp_path)
    sweep.process.send_signal(signal.SIGKILL)
    sweep.process.wait()
    sweep.finish(sweep.start("--unlock"))
    sweep.process = sweep.start("--until", "train")
    check(sweep, undisturbed, tries=2)
    log = (sweep.home / "out/logs/train" / f"{POINT_PACK}.log").read_text()
    assert "waiting for process" in log and "has trained this meanwhile" in log
    assert log.count(f"epoch  {EPOCHS}/{EPOCHS}") == 1


def test_over_its_time(cluster: Cluster, tmp_path: Path) -> None:
    """A minute is not enough: a checkpoint before it is over, and the next try goes on."""
    sweep, whole = SlurmSweep(tmp_path / "clone", runtime="1 * attempt"), tmp_path / "whole"
    reference = SlurmSweep(whole)
    for one in (sweep, reference):
        one.one_point(7 * EPOCHS)
    sweep.process = sweep.start("--until", "train")
    reference.run("--until", "train")
    check(sweep, reference.home / "out/train" / POINT, tries=2)
    log = (sweep.home / "out/logs/train" / f"{POINT_PACK}.log").read_text()
    assert "the time limit of 1 minutes is near; run it again" in log


POINT_PACK = "lora_s3_1"


def begun(tmp_path: Path) -> SlurmSweep:
    """A sweep whose training has come some way."""
    sweep = SlurmSweep(tmp_path / "clone")
    sweep.one_point(EPOCHS)
    sweep.process = sweep.start("--until", "train")
    wait_for(lambda: sweep.epochs() > 10, "the training to begin", seconds=120)
    assert sweep.epochs() < EPOCHS - 20
    return sweep


def check(sweep: SlurmSweep, undisturbed: Path, tries: int | None) -> None:
    """It ends well, with the result of an undisturbed run, in so many submissions."""
    sweep.finish(sweep.process)
    assert same(undisturbed, sweep.home / "out/train" / POINT)
    jobs = list((sweep.home / "slurm_logs/rule_train").rglob("*.log"))
    assert tries is None or len(jobs) == tries
    work = sweep.home / "out/train/packs" / POINT_PACK
    assert not work.exists() or not list(work.iterdir())
