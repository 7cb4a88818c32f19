"""The literal `snakemake --profile slurm` on a real Slurm, and what nights on a cluster bring."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lora.files.sealed import read_json
from tests.faults.test_snakemake import BROKEN
from tests.slurm.cluster import NODES, Cluster, install, output, wait_for
from tests.support.sweep import ROOT, Sweep
from tests.support.trainings import same

pytestmark = pytest.mark.slow
POINT, PACK = "lora_r1_a0.5_s3", "lora_s3_1"


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
        self.config["checks"] = {"quick": [], "standard": [], "thorough": []}
        self.config["export"] = {"engines": []}
        self.fill_in(**resources)

    def fill_in(self, **resources: str) -> None:
        path = self.home / "slurm/config.yaml"
        path.parent.mkdir(exist_ok=True)
        text = (ROOT / "slurm/config.yaml").read_text()
        text = re.sub(r"  slurm_account: FILL_IN.*\n", "", text)
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


@pytest.mark.usefixtures("slow_ones")
def test_a_sweep_equals_a_local_one(cluster: Cluster, tmp_path: Path) -> None:
    """All trainings on nodes with a GPU, nothing of it here; the same table to the last digits."""
    local, remote = Sweep(tmp_path / "local"), SlurmSweep(tmp_path / "remote")
    remote.config["checks"]["quick"] = ["gradients"]
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
    assert len(logs_of(remote)) == 2
    ran = {job["JobId"]: job for job in cluster.jobs()}
    for log in logs_of(remote):
        assert ran[log.stem]["NodeList"] in NODES
        assert ran[log.stem]["JobState"] == "COMPLETED"
        assert "gres/gpu=1" in ran[log.stem]["Tres"] or "gpu" in str(ran[log.stem])
    minutes = json.loads((remote.home / "out/train/minutes.json").read_text())
    assert set(minutes.values()) == {240}
    # now that points are trained, their times are known
    remote.config["grid"]["rank"] = [1, 2, 3]
    printed = remote.finish(remote.start("--dry-run"))
    assert re.search(r"plan: 1 points to train in 1 jobs.* about 0\.0 GPU hours", printed)


EPOCHS = 300  # some twenty seconds


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SlurmSweep:
    sweep = SlurmSweep(tmp_path_factory.mktemp("undisturbed") / "clone")
    sweep.one_point(EPOCHS)
    sweep.run("--until", "train")
    return sweep


@pytest.fixture(scope="module")
def slow_ones(
    cluster: Cluster, undisturbed: SlurmSweep, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, SlurmSweep]:
    """Sweeps that run beside the tests above theirs, which they have to bear."""
    home = tmp_path_factory.mktemp("slow")
    made = {
        "memory": before_training(undisturbed, home / "memory", mem_mb="400 * attempt"),
        "time": before_training(
            undisturbed, home / "time", runtime="1 * attempt", slurm_extra="--nice"
        ),
        "whole": before_training(undisturbed, home / "whole"),
    }
    for name in ("time", "whole"):
        made[name].one_point(5 * EPOCHS)
    for name in ("memory", "time"):
        made[name].process = made[name].start("--until", "train")
    made["whole"].thread = threading.Thread(target=made["whole"].run, args=("--until", "train"))
    made["whole"].thread.start()
    return made


@pytest.mark.usefixtures("slow_ones")
def test_cancelled(cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path) -> None:
    sweep = begun(undisturbed, tmp_path)
    subprocess.run(["scancel", sweep.slurm_job()], check=True)
    check(sweep, undisturbed, tries=2)


def test_a_node_goes_down(cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path) -> None:
    """Slurm starts the job elsewhere while the first still runs, unseen: no two at once."""
    sweep = begun(undisturbed, tmp_path)
    node = output("squeue", "-h", "-j", sweep.slurm_job(), "-o", "%N").strip()
    cluster.kill(node)
    try:
        check(sweep, undisturbed, tries=None)
    finally:
        cluster.start_node(node)
        cluster.wait_until_idle()


def test_snakemake_killed_while_jobs_run(
    cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path
) -> None:
    """Started again it submits a second job, which waits for the first and trains nothing."""
    sweep = begun(undisturbed, tmp_path)
    sweep.process.send_signal(signal.SIGKILL)
    sweep.process.wait()
    sweep.finish(sweep.start("--unlock"))
    sweep.process = sweep.start("--until", "train")
    check(sweep, undisturbed, tries=2)
    log = (sweep.home / "out/logs/train" / f"{PACK}.log").read_text()  # of the second job
    assert "waiting for process" in log and "has trained this meanwhile" in log
    assert "epoch" not in log


def test_preempted(cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path) -> None:
    """Requeued by Slurm itself, under the same number."""
    sweep = begun(undisturbed, tmp_path)
    job = sweep.slurm_job()
    command = ["sbatch", "-p", "high", "-N", "3", "--exclusive", "-o", "/dev/null"]
    subprocess.run([*command, "--wrap", "sleep 2"], check=True, capture_output=True)
    wait_for(lambda: sweep.slurm_job() != job, "the preemption")
    check(sweep, undisturbed, tries=1)


def test_crashes_at_every_try(
    cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path, told: Callable
) -> None:
    """As often as the profile says, then marked as failed; the next start trains it again."""
    sweep = before_training(undisturbed, tmp_path / "clone")
    profile = sweep.home / "slurm/config.yaml"
    profile.write_text(profile.read_text().replace("retries: 3", "retries: 1"))
    fault = sweep.home / "sitecustomize.py"
    fault.write_text(BROKEN.format(root=ROOT, method="lora"))
    sweep.finish(sweep.start("--until", "train"))
    assert len(logs_of(sweep)) == 2
    record = read_json(sweep.home / f"out/train/packs/{PACK}.json")[POINT]
    assert record["ended_by"] == "failed" and "CUDA error" in record["reason"]
    fault.unlink()
    sweep.finish(sweep.start("--until", "train"))
    assert len(logs_of(sweep)) == 3
    assert same(undisturbed.home / "out/train" / POINT, sweep.home / "out/train" / POINT)
    told("a job crashes at every try", 2, "marked failed, with its reason", "equal")


def test_over_its_memory(slow_ones: dict[str, SlurmSweep], undisturbed: SlurmSweep) -> None:
    """Killed by Slurm, tried again with more."""
    check(slow_ones["memory"], undisturbed, tries=None)
    assert len(logs_of(slow_ones["memory"])) > 1


def test_over_its_time(slow_ones: dict[str, SlurmSweep]) -> None:
    """A minute is not enough: a checkpoint before it is over, and the next try goes on."""
    slow_ones["whole"].thread.join()
    check(slow_ones["time"], slow_ones["whole"], tries=None)
    said = "".join(path.read_text() for path in logs_of(slow_ones["time"]))
    assert "the time limit of 1 minutes is near; run it again" in said


def before_training(undisturbed: SlurmSweep, home: Path, **resources: str) -> SlurmSweep:
    """The same sweep with its data split and its E0s fitted, in a folder of its own."""
    others = shutil.ignore_patterns("train", "slurm_logs", "printed")
    shutil.copytree(undisturbed.home, home, ignore=others, dirs_exist_ok=True)
    sweep = copy.deepcopy(undisturbed)
    sweep.home = home
    sweep.fill_in(**resources)
    return sweep


def begun(undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    """A sweep whose training has come some way."""
    sweep = before_training(undisturbed, home)
    sweep.process = sweep.start("--until", "train")
    wait_for(lambda: sweep.epochs() > 10, "the training to begin", seconds=120)
    assert sweep.epochs() < EPOCHS - 20
    return sweep


def check(sweep: SlurmSweep, undisturbed: SlurmSweep, tries: int | None) -> None:
    """It ends well, with the result of an undisturbed run, in so many submissions."""
    sweep.finish(sweep.process)
    assert same(undisturbed.home / "out/train" / POINT, sweep.home / "out/train" / POINT)
    assert tries is None or len(logs_of(sweep)) == tries
    assert not list((sweep.home / "out/train/packs" / PACK).iterdir())  # checkpoint, lock


def logs_of(sweep: SlurmSweep) -> list[Path]:
    """A file a submission of a training."""
    return list((sweep.home / "slurm_logs/rule_train").rglob("*.log"))


STUB = """#!{python}
import json, sys
from datetime import datetime
from pathlib import Path
step, args = sys.argv[1], sys.argv[2:]
given = lambda name: args[args.index("--" + name) + 1]
if step == "split":
    for name in ("train.xyz", "valid.xyz", "test.xyz", "split.json"):
        Path(given("out"), name).write_text("")
elif step == "e0s":
    Path(given("out")).write_text("")
elif step == "train":
    points = json.loads(given("points"))
    for point in points:
        with open("trained.txt", "a") as file:
            file.write(point + chr(10))
    Path(given("receipt")).write_text(json.dumps({{p: {{"seconds": 1.0}} for p in points}}))
"""


def test_two_hundred_points(cluster: Cluster, tmp_path: Path) -> None:
    """On a trainer that does nothing: no point lost, none twice, the controller not flooded."""
    sweep = SlurmSweep(tmp_path / "clone")
    sweep.config["grid"] = {"rank": list(range(1, 51)), "alpha": [1, 2, 3, 4]}
    sweep.config |= {"baselines": [], "rank_curve": False, "pack": {"size": 4}}
    stub = sweep.home / "bin/mace-lora"
    stub.parent.mkdir()
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    before = len(cluster.jobs())
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{stub.parent}:{path}"
    try:
        printed = sweep.finish(sweep.start("--until", "train"), seconds=600)
    finally:
        os.environ["PATH"] = path
    assert "plan: 200 points to train in 50 jobs" in printed
    trained = (sweep.home / "trained.txt").read_text().split()
    assert len(trained) == len(set(trained)) == 200
    jobs = cluster.jobs()[before:]
    assert len(jobs) == 52 and {job["JobState"] for job in jobs} == {"COMPLETED"}
    times = sorted(datetime.fromisoformat(job["SubmitTime"]).timestamp() for job in jobs)
    busiest = max(sum(t <= other < t + 60 for other in times) for t in times)
    assert busiest <= 31


def test_with_accounting(cluster: Cluster, tmp_path: Path) -> None:
    """The account of the profile is charged, and the executor asks sacct; after all others."""
    cluster.stop()
    second = Cluster(tmp_path / "cluster", accounting=True)
    try:
        second.start()
        sweep = SlurmSweep(tmp_path / "clone")
        path = sweep.home / "slurm/config.yaml"
        profile = yaml.safe_load(path.read_text())
        profile["default-resources"]["slurm_account"] = "lab"
        path.write_text(yaml.safe_dump(profile | {"slurm-status-command": "sacct"}))
        sweep.one_point(2)
        sweep.finish(sweep.start("--until", "train"))
        charged = output("sacct", "-a", "-X", "-n", "-P", "-o", "account,state,alloctres")
        jobs = [line.split("|") for line in charged.splitlines()]
        assert [job[:2] for job in jobs] == [["lab", "COMPLETED"]] * 3
        assert [("gres/gpu=1" in job[2]) for job in jobs] == [False, False, True]
    finally:
        second.stop()
