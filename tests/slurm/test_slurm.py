"""The literal `snakemake --profile slurm` on a real Slurm, and what nights on a cluster bring.

Sweeps wait most of the time, so all that do not disturb each other run side by side: `started`
begins them, and each test looks at its own.
"""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lora.cli.stages import steps
from lora.cli.status import status
from lora.files.sealed import read_json
from lora.plan.sweep import Sweep as Plan
from tests.faults.test_snakemake import BROKEN
from tests.slurm.cluster import NODES, Cluster, output, running, wait_for
from tests.support import forkserver
from tests.support.sweep import ROOT, Sweep, kept_sweep
from tests.support.trainings import same

pytestmark = pytest.mark.slow
POINT, PACK = "lora_r1_a0.5_s3", "lora_s3_1"
EPOCHS = 24
PLUGIN = "snakemake_executor_plugin_mace_slurm"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("slurm") / "cluster") as made:
        yield made


# What a training imports first: its steps last, without keeping a core busy that others need.
SLOW = """
import sys
if "train" in sys.orig_argv:
    import lora  # the copy's
    sys.path.insert(0, "{root}")
    from tests.faults.child import steps_last
    steps_last({seconds})
"""


RACE = {
    "race": {"rungs": [0.25, 0.5]},
    "grid": {"rank": [1, 2], "alpha": [0.5, 8]},
    "baselines": [],
    "rank_curve": False,
    "train": {"max_num_epochs": 4, "batch_size": 3, "lr": 0.01},
}


class SlurmSweep(Sweep):
    """A clone whose profile was filled in as docs/cluster.md says."""

    commands: tuple[str, ...] = forkserver.COMMANDS  # the others are the real ones
    process: subprocess.Popen
    printed: str
    seen: dict  # its point in the status
    failed: tuple[dict, int]  # how a point ended that failed, and after how many tries

    def __init__(self, home: Path, **resources: str | int) -> None:
        super().__init__(home)
        shutil.copytree(ROOT / PLUGIN, home / PLUGIN)
        self.config["checks"] = {"quick": [], "standard": [], "thorough": []}
        self.config["export"] = {"engines": []}
        self.fill_in(**resources)

    def fill_in(self, **resources: str | int) -> None:
        path = self.home / "slurm/config.yaml"
        path.parent.mkdir(exist_ok=True)
        text = (ROOT / "slurm/config.yaml").read_text()
        text = re.sub(r"  slurm_account: FILL_IN.*\n", "", text)
        text = re.sub(r"slurm_partition: FILL_IN.*\n", "slurm_partition: gpu\n", text)
        profile = yaml.safe_load(text)
        profile["set-resources"]["train"] |= resources
        profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
        # a person can wait forty seconds for the first look at a job
        profile |= {
            "mace-slurm-init-seconds-before-status-checks": 1,
            "seconds-between-status-checks": 1,
        }
        path.write_text(yaml.safe_dump(profile))

    def change_profile(self, **changes: object) -> None:
        path = self.home / "slurm/config.yaml"
        profile = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            key = key.replace("_", "-")
            profile[key] = profile[key] | value if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(profile))

    def one_point(self, epochs: int) -> None:
        self.config["grid"] = {"rank": [1], "alpha": [0.5]}
        self.config |= {"baselines": [], "rank_curve": False, "pack": {"size": 1}}
        self.config["train"] = {"max_num_epochs": epochs, "patience": epochs, "batch_size": 3}

    def start(self, *args: str, **environment: str) -> subprocess.Popen:
        """The command in the background; what it prints goes to `printed`."""
        (self.home / "config/config.yaml").write_text(yaml.safe_dump(self.config))
        with (self.home / "printed").open("a") as printed:
            return subprocess.Popen(
                ["snakemake", "--profile", "slurm", *args],
                cwd=self.home,
                env=self.environment(self.commands) | environment,
                stdout=printed,
                stderr=printed,
                start_new_session=True,  # a group of processes, as that of a terminal
            )

    def finish(self, process: subprocess.Popen, seconds: float = 600) -> str:
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
        found = [x.split()[0] for x in lines if f"{self.home} " in x and " train/" in x]
        return found[0] if found else ""


def test_the_profile_says_what_is_missing(tmp_path: Path) -> None:
    """Before anything is submitted, and so where no Slurm is."""
    sweep = Sweep(tmp_path / "clone")
    for name in ("slurm", PLUGIN):
        shutil.copytree(ROOT / name, sweep.home / name)
    (sweep.home / "config/config.yaml").write_text(yaml.safe_dump(sweep.config))
    command = ["snakemake", "--profile", "slurm"]
    done = subprocess.run(command, cwd=sweep.home, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "default-resources: slurm_account is not filled in" in done.stderr
    assert not (sweep.home / "out").exists()
    path = sweep.home / "slurm/config.yaml"
    filled, line = path.read_text().partition("set-resources:")[::2]
    path.write_text(re.sub("FILL_IN", "gpu", filled) + "set-resources:" + line)
    done = subprocess.run(command, cwd=sweep.home, capture_output=True, text=True, check=False)
    assert "profile: set-resources: train: slurm_partition is not filled in" in done.stderr


# --- what runs side by side


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SlurmSweep:
    sweep = SlurmSweep(tmp_path_factory.mktemp("undisturbed") / "clone")
    sweep.one_point(EPOCHS)
    sweep.run("--until", "train")
    return sweep


def before_training(undisturbed: SlurmSweep, home: Path, **resources: str) -> SlurmSweep:
    """The same sweep with its data split and its E0s fitted, in a folder of its own."""
    others = shutil.ignore_patterns("train", "slurm_logs", "printed", ".snakemake")
    shutil.copytree(undisturbed.home, home, ignore=others, dirs_exist_ok=True)
    sweep = copy.deepcopy(undisturbed)
    sweep.home = home
    sweep.fill_in(**resources)
    return sweep


def slow(home: Path, seconds: float) -> None:
    """Let each of the 2 x EPOCHS steps last."""
    (home / "sitecustomize.py").write_text(SLOW.format(root=ROOT, seconds=seconds))


def begun(undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    """A sweep whose training has come some way."""
    sweep = before_training(undisturbed, home)
    slow(home, 0.4)
    sweep.process = sweep.start("--until", "train")
    wait_for(lambda: sweep.epochs() > 2, "the training to begin", seconds=240)
    assert sweep.epochs() < EPOCHS / 2
    return sweep


def cancelled(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = begun(undisturbed, home)
    subprocess.run(["scancel", sweep.slurm_job()], check=True)
    sweep.finish(sweep.process)
    return sweep


def node_down(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = begun(undisturbed, home)
    node = output("squeue", "-h", "-j", sweep.slurm_job(), "-o", "%N").strip()
    cluster.kill(node)
    try:
        sweep.finish(sweep.process)
    finally:
        cluster.start_node(node)
    return sweep


def snakemake_killed(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = begun(undisturbed, home)
    kill(sweep)
    sweep.seen = next(x for x in status(home / "out") if x["point"] == POINT)
    sweep.printed = sweep.finish(sweep.start("--until", "train"))
    return sweep


def kill(sweep: SlurmSweep) -> None:
    sweep.process.send_signal(signal.SIGKILL)
    sweep.process.wait()
    sweep.finish(sweep.start("--unlock"))


def killed_and_changed(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    """The settings that the running job was submitted with are not wanted any more."""
    sweep = begun(undisturbed, home)
    kill(sweep)
    sweep.one_point(6)
    sweep.printed = sweep.finish(sweep.start("--until", "train"))
    return sweep


# An `sbatch` that submits at once, and is slow to tell the number.
SLOW_TO_TELL = """#!/bin/sh
case "$*" in *--test-only*) exec /usr/bin/sbatch "$@" ;; esac
/usr/bin/sbatch "$@" > "$0.$$"
: > "$0.asked"
sleep 5
cat "$0.$$"
"""


def interrupted(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    """Ctrl-C, three times, while jobs are being submitted."""
    sweep = before_training(undisturbed, home)
    sweep.config["grid"] = {"rank": [1, 2, 3, 4], "alpha": [0.5]}
    sweep.commands = ("mace-lora",)  # the real snakemake, with its commands in its group
    sbatch = home / "bin/sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SLOW_TO_TELL)
    sbatch.chmod(0o755)
    path = sweep.environment(sweep.commands)["PATH"]
    sweep.process = sweep.start("--until", "train", PATH=f"{sbatch.parent}:{path}")
    wait_for((home / "bin/sbatch.asked").exists, "a submission", seconds=240)
    for _ in range(3):
        os.killpg(sweep.process.pid, signal.SIGINT)
        time.sleep(0.3)
    sweep.process.wait(120)
    sweep.printed = (home / "printed").read_text()
    return sweep


def preempted(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = begun(undisturbed, home)
    job = sweep.slurm_job()
    node = output("squeue", "-h", "-j", job, "-o", "%N").strip()
    command = ["sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null"]
    subprocess.run([*command, "--wrap", "sleep 2"], check=True, capture_output=True)
    wait_for(lambda: sweep.slurm_job() != job, "the preemption")
    sweep.finish(sweep.process)
    return sweep


def crashing(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = before_training(undisturbed, home)
    sweep.change_profile(retries=1)
    (home / "sitecustomize.py").write_text(BROKEN.format(root=ROOT, method="lora"))
    sweep.finish(sweep.start("--until", "train"))
    sweep.failed = read_json(home / f"out/train/packs/{PACK}.json")[POINT], len(logs_of(sweep))
    (home / "sitecustomize.py").unlink()
    sweep.finish(sweep.start("--until", "train"))
    return sweep


def over_memory(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    """Slurm measures and kills what its job started: real commands."""
    sweep = before_training(undisturbed, home, mem_mb="400 * attempt")
    sweep.commands = ()
    sweep.finish(sweep.start("--until", "train"))
    return sweep


def whole_sweep(cluster: Cluster, undisturbed: SlurmSweep, home: Path) -> SlurmSweep:
    sweep = SlurmSweep(home)
    sweep.config["checks"]["quick"] = ["gradients"]
    sweep.printed = sweep.finish(sweep.start())
    return sweep


SIDE_BY_SIDE = (
    whole_sweep,
    cancelled,
    node_down,
    snakemake_killed,
    killed_and_changed,
    interrupted,
    preempted,
    crashing,
    over_memory,
)


@pytest.fixture(scope="module")
def started(
    cluster: Cluster, undisturbed: SlurmSweep, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Callable, Future[SlurmSweep]]]:
    """Each story of a sweep, in a thread of its own; they differ in their nodes."""
    home = tmp_path_factory.mktemp("side_by_side")
    with ThreadPoolExecutor(len(SIDE_BY_SIDE)) as threads:
        yield {
            story: threads.submit(story, cluster, undisturbed, home / story.__name__)
            for story in SIDE_BY_SIDE
        }


def check(sweep: SlurmSweep, undisturbed: SlurmSweep, tries: int | None) -> None:
    """It has the result of an undisturbed run, in so many submissions."""
    assert same(undisturbed.home / "out/train" / POINT, sweep.home / "out/train" / POINT)
    assert tries is None or len(logs_of(sweep)) == tries
    assert not list((sweep.home / "out/train/packs" / PACK).iterdir())  # checkpoint, lock


def logs_of(sweep: SlurmSweep) -> list[Path]:
    """A file a submission of a training."""
    return list((sweep.home / "slurm_logs/rule_train").rglob("*.log"))


def test_a_sweep_equals_a_local_one(started: dict, cluster: Cluster, tmp_path: Path) -> None:
    """All trainings on nodes with a GPU, nothing of it here; the same table to the last digits."""
    remote = started[whole_sweep].result()
    assert "plan: 3 of 3 points to train in 2 jobs" in remote.printed
    tables = [
        pd.read_csv(results / "report/sweep.csv").set_index(["point", "test_set"])
        for results in (kept_sweep(tmp_path), remote.home / "out")
    ]
    numbers = [t.filter(regex="rmse|mae").sort_index() for t in tables]
    assert numbers[0].notna().all(axis=None) and len(numbers[0]) == 15
    pd.testing.assert_frame_equal(*numbers, rtol=1e-6)
    assert len(logs_of(remote)) == 2
    # what follows a training is one job in the queue
    bundles = {*read_json(remote.home / "out/plan.json")["bundles"].values()}
    judged = sorted((remote.home / "slurm_logs").glob("group_judge_check_evaluate_merge/*/*.log"))
    assert sorted(x.parent.name for x in judged) == sorted(bundles)
    assert not list((remote.home / "slurm_logs").glob("rule_[mc]*"))  # merge, check
    at = {row["step"]: row for row in steps(Plan.load(remote.home / "out/plan.json"))}
    assert {"check", "report", "track"} <= at.keys()
    assert all(row["done"] == row["jobs"] and not row["states"] for row in at.values())
    ran = {job["JobId"]: job for job in cluster.jobs()}
    for log in logs_of(remote):
        assert ran[log.stem]["NodeList"] in NODES
        assert ran[log.stem]["JobState"] == "COMPLETED"
        assert "gres/gpu=1" in ran[log.stem]["Tres"] or "gpu" in str(ran[log.stem])
    minutes = read_json(remote.home / "out/plan.json")["minutes"]
    assert set(minutes.values()) == {240}
    # now that points are trained, their times are known
    remote.config["grid"]["rank"] = [1, 2, 3]
    printed = remote.finish(remote.start("--dry-run"))
    assert re.search(r"plan: 1 of 4 points to train in 1 jobs.* about 0\.0", printed)


@pytest.mark.long(only=True)
def test_a_race_equals_a_local_one(cluster: Cluster, tmp_path: Path) -> None:
    """The same settings go on, in packs formed anew, and come to the same ends."""
    remote = SlurmSweep(tmp_path / "remote")
    remote.config |= RACE
    remote.printed = remote.finish(remote.start("--until", "choose"))
    local = Sweep(tmp_path / "local")
    local.config = remote.config
    local.run("--until", "choose")
    assert "race: lora settings race: 4 to epoch 1, 2 to epoch 2, 2 to epoch 4" in remote.printed
    for n in ("1", "2"):
        rungs = [read_json(x.home / f"out/train/rungs/{n}.json") for x in (remote, local)]
        assert rungs[0]["heats"]["lora"]["kept"] == rungs[1]["heats"]["lora"]["kept"]
        assert rungs[0]["packs"] == rungs[1]["packs"]
    packs = ("lora_rung1_s3_1", "lora_rung1_s3_2", "lora_rung2_s3_1", "lora_end_s3_1")
    names = {log.parent.name for log in logs_of(remote)}
    assert all(any(pack in name for name in names) for pack in packs) and len(names) == 4
    tables = [pd.read_csv(x.home / "out/report/sweep.csv") for x in (remote, local)]
    numbers = [x.set_index(["point", "test_set"]).filter(regex="rmse|mae") for x in tables]
    pd.testing.assert_frame_equal(*numbers, rtol=1e-6)


def test_cancelled(started: dict, undisturbed: SlurmSweep) -> None:
    check(started[cancelled].result(), undisturbed, tries=2)


def test_a_node_goes_down(started: dict, undisturbed: SlurmSweep) -> None:
    """Slurm starts the job elsewhere while the first still runs, unseen: no two at once."""
    check(started[node_down].result(), undisturbed, tries=None)


def test_snakemake_killed_while_jobs_run(started: dict, undisturbed: SlurmSweep) -> None:
    """Started again it finds the job that runs, and waits for it: no second one, one log."""
    sweep = started[snakemake_killed].result()
    check(sweep, undisturbed, tries=1)
    job = logs_of(sweep)[0].stem
    assert f"job {job} of an earlier start is waited for: train/{PACK}" in sweep.printed
    assert sweep.seen["state"] == "training" and f"(job {job}" in sweep.seen["queue"]
    log = (sweep.home / "out/logs/train" / f"{PACK}.log").read_text()
    assert [int(x) for x in re.findall(r"epoch +(\d+)/", log)] == list(range(EPOCHS + 1))


def test_snakemake_killed_and_other_settings(started: dict, cluster: Cluster) -> None:
    """What still runs is cancelled, and the new job starts when it is gone."""
    sweep = started[killed_and_changed].result()
    old, new = sorted(logs_of(sweep), key=lambda x: int(x.stem))
    assert f"cancelled, as it is not as now: train/{PACK} (job {old.stem})" in sweep.printed
    ran = {job["JobId"]: job for job in cluster.jobs()}
    assert ran[old.stem]["JobState"] == "CANCELLED"
    assert ran[new.stem]["JobState"] == "COMPLETED"
    assert ran[old.stem]["EndTime"] <= ran[new.stem]["StartTime"]
    assert sweep.epochs() == 6
    log = (sweep.home / "out/logs/train" / f"{PACK}.log").read_text()
    assert "waiting for process" not in log


def test_interrupted_thrice(started: dict, cluster: Cluster) -> None:
    """Nothing is left in the queue, also of an sbatch that was interrupted with the rest."""
    sweep = started[interrupted].result()
    assert sweep.process.returncode != 0 and "slurm: cancelling all jobs" in sweep.printed
    rows = output("squeue", "-h", "-o", "%i %T %Z").splitlines()
    left = [x for x in rows if f"{sweep.home}" in x and "COMPLETING" not in x]
    assert not left and list((sweep.home / "bin").glob("sbatch.[0-9]*"))
    assert not list((sweep.home / "out/train").glob("*/train.json"))


def test_preempted(started: dict, undisturbed: SlurmSweep) -> None:
    """Requeued by Slurm itself, under the same number."""
    check(started[preempted].result(), undisturbed, tries=1)


def test_crashes_at_every_try(started: dict, undisturbed: SlurmSweep, told: Callable) -> None:
    """As often as the profile says, then marked as failed; the next start trains it again."""
    sweep = started[crashing].result()
    record, tries = sweep.failed
    assert tries == 2 and record["ended_by"] == "failed" and "CUDA error" in record["reason"]
    assert len(logs_of(sweep)) == 3
    assert same(undisturbed.home / "out/train" / POINT, sweep.home / "out/train" / POINT)
    told("a job crashes at every try", 2, "marked failed, with its reason", "equal")


def test_over_its_memory(started: dict, undisturbed: SlurmSweep) -> None:
    """Killed by Slurm, tried again with more."""
    sweep = started[over_memory].result()
    check(sweep, undisturbed, tries=None)
    assert len(logs_of(sweep)) > 1


@pytest.mark.long(only=True)
def test_over_its_time(cluster: Cluster, undisturbed: SlurmSweep, tmp_path: Path) -> None:
    """A minute is not enough: a checkpoint before it is over, and the next try goes on."""
    sweep = before_training(undisturbed, tmp_path / "clone", runtime="1 * attempt")
    slow(sweep.home, 2.0)
    sweep.finish(sweep.start("--until", "train"))
    check(sweep, undisturbed, tries=None)
    said = "".join(path.read_text() for path in logs_of(sweep))
    assert "the time limit of 1 minutes is near; run it again" in said


# A `mace-lora` that trains nothing, and leaves what a plan wants to see.
STUB = """#!{python}
import sys
from lora.files.sealed import Receipt, write_text
from lora.plan.freshness import Files, stamp
from lora.plan.job import key_of
from lora.plan.sweep import Sweep
step, plan, name = sys.argv[1:4] if sys.argv[3:] else [*sys.argv[1:3], ""]
sweep = Sweep.load(plan)
job = sweep.jobs[key_of(step, "" if name.startswith("-") else name)]
content = {{"made": job.key}}
if step == "foundation":
    write_text(sweep.layout.foundation_model, "")
if step == "split":
    for part in ("train", "valid", "test"):
        write_text(sweep.layout.split(part), "")
if step == "train":
    points = job.settings["points"]
    with open("trained.txt", "a") as file:
        file.writelines(point + chr(10) for point in points)
    content = {{x: {{"point": x, "seconds": 1.0, "ended_by": "patience"}} for x in points}}
made_of = stamp(job, {{x: sweep.jobs[x] for x in job.needs}}, Files())
Receipt(job.receipt, made_of).write(content)
"""


@pytest.mark.long(only=True)
def test_many_points(cluster: Cluster, tmp_path: Path, told: Callable) -> None:
    """On a trainer that does nothing: no point lost, none twice, the controller not flooded."""
    sweep = SlurmSweep(tmp_path / "clone")
    ranks, seconds, most = 50, 60, 30
    sweep.config["grid"] = {"rank": list(range(1, ranks + 1)), "alpha": [1, 2, 3, 4]}
    sweep.config |= {"baselines": [], "rank_curve": False, "pack": {"size": 4}}
    sweep.fill_in(slurm_partition="many")
    sweep.change_profile(default_resources={"slurm_partition": "many"})
    stub = sweep.home / "bin/mace-lora"
    stub.parent.mkdir()
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    path = sweep.environment(("snakemake",))["PATH"]
    sweep.finish(sweep.start("--until", "train", PATH=f"{stub.parent}:{path}"), seconds=900)
    trained = (sweep.home / "trained.txt").read_text().split()
    assert len(trained) == len(set(trained)) == 4 * ranks
    jobs = [job for job in cluster.jobs() if job["Partition"] == "many"]
    assert len(jobs) == ranks + 3 and {job["JobState"] for job in jobs} == {"COMPLETED"}
    times = sorted(datetime.fromisoformat(job["SubmitTime"]).timestamp() for job in jobs)
    busiest = max(sum(t <= other < t + seconds for other in times) for t in times)
    assert busiest <= most + 1
    told(f"{ranks} jobs of four points on Slurm", 0, f"at most {most} in {seconds} s", "none lost")
