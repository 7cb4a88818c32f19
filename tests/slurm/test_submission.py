"""What Slurm would refuse or never start is said before; what passes is waited for."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora.cli.stages import of_point
from lora.cli.status import status
from lora.plan.sweep import Sweep
from tests.slurm.cluster import Cluster, output, running, wait_for
from tests.slurm.test_slurm import PACK, POINT, SlurmSweep, before_training, logs_of, slow
from tests.support import counts

pytestmark = pytest.mark.slow
AWAY = counts.of(0, 75)  # seconds without a controller, after the first refusal


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("slurm") / "cluster", accounting=True) as made:
        yield made


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path) -> SlurmSweep:
    made = SlurmSweep(tmp_path / "clone")
    made.one_point(2)
    return made


@pytest.fixture(scope="module")
def charged(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> SlurmSweep:
    """The first sweep of all here, with an account; its executor asks sacct."""
    made = SlurmSweep(tmp_path_factory.mktemp("charged") / "clone")
    made.change_profile(default_resources={"slurm_account": "lab"})
    made.change_profile(mace_slurm_status_command="sacct")
    made.one_point(2)
    made.finish(made.start("--until", "train"))
    made.printed = output("sacct", "-a", "-X", "-n", "-P", "-o", "account,state,alloctres")
    return made


@pytest.fixture
def ready(charged: SlurmSweep, tmp_path: Path) -> SlurmSweep:
    """A sweep that has only its training before it."""
    return before_training(charged, tmp_path / "clone")


def test_with_accounting(charged: SlurmSweep) -> None:
    """The account of the profile is charged."""
    jobs = [line.split("|") for line in charged.printed.splitlines()]
    assert [job[:2] for job in jobs] == [["lab", "COMPLETED"]] * 4
    assert [("gres/gpu=1" in job[2]) for job in jobs] == [False, False, False, True]


def refused(sweep: SlurmSweep, **environment: str) -> str:
    """Start; return what was said when nothing was submitted, within a minute."""
    code = sweep.start("--until", "train", **environment).wait(60)
    printed = (sweep.home / "printed").read_text()
    assert code != 0 and "Traceback" not in printed, printed
    assert output("squeue", "-h", "-o", "%i") == ""
    assert not (sweep.home / "out/foundation").exists()
    return printed


WRONG = {
    "memory": ({"mem_mb": 900000}, "node configuration is not available", "mem_mb"),
    "gres": ({"gres": "'gpu:nosuch:1'", "gpu": 0}, "node configuration", "gpu or threads"),
    "GPUs": ({"gpu": 30}, "node configuration is not available", "sinfo -o '%P %c %m %G'"),
    "partition": ({"slurm_partition": "nosuch"}, "invalid partition", "set slurm_partition"),
    "account": ({"slurm_account": "nosuch"}, "account nosuch", "set slurm_account"),
    "QOS": ({"qos": "nosuch"}, "Invalid qos", "set qos"),
    "no GPU there": ({"slurm_partition": "cpu"}, "node configuration", "set slurm_partition"),
    "time": ({"runtime": 1000}, "asks for 1000 minutes, but its partition allows 720", "runtime"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_never_start_is_said(sweep: SlurmSweep, name: str) -> None:
    resources, said, what = WRONG[name]
    sweep.fill_in(**resources)
    line = next(x for x in refused(sweep).splitlines() if "rule train: " in x)
    assert said in line and what in line


def test_all_that_is_wrong_is_said_at_once(sweep: SlurmSweep) -> None:
    """Of the same reason one line, with the rules."""
    sweep.fill_in(runtime=1000)
    sweep.change_profile(default_resources={"mem_mb": 900000})
    lines = [x.strip() for x in refused(sweep).splitlines() if x.strip().startswith("rule")]
    found = [x.partition(":")[0] for x in lines if "set mem_mb" in x or "mem_mb" in x]
    assert found == ["rules audit, e0s, split"], lines
    assert any(x.startswith("rule train: asks for 1000 minutes") for x in lines)


def test_without_sbatch(sweep: SlurmSweep, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for path in Path(folder).iterdir():
            if path.name != "sbatch" and not (commands / path.name).is_symlink():
                (commands / path.name).symlink_to(path)
    own = sweep.environment(sweep.commands)["PATH"].split(":")[0]
    path = f"{own}:{Path(sys.executable).parent}:{commands}"
    assert "sbatch is not in PATH, so nothing was submitted" in refused(sweep, PATH=path)


def test_no_job_asks_for_more_than_its_partition_allows(
    cluster: Cluster, ready: SlurmSweep
) -> None:
    """One minute a try, whatever is asked for: the training knows it and comes to its end.

    Beside that, it has the threads of the profile, whatever cores this machine has.
    """
    sweep = ready
    sweep.one_point(14)  # 28 steps of 2 s: more than a minute has after its start and its reserve
    sweep.fill_in(slurm_partition="minute", mem_mb=1000)
    sweep.change_profile(retries=29)  # a busy machine comes less far in a minute
    sweep.change_profile(set_threads={"train": 7})
    slow(sweep.home, 2.0)
    sweep.finish(sweep.start("--until", "train"), seconds=1500)
    tries = [x.stem for x in logs_of(sweep)]
    assert len(tries) > 1
    ran = {job["JobId"]: job for job in cluster.jobs()}
    assert {ran[x]["TimeLimit"] for x in tries} == {"1"}
    assert {ran[x]["ProcCnt"] for x in tries} == {"7"}
    assert sorted(ran[x]["JobState"] for x in tries) == ["COMPLETED"] + ["FAILED"] * len(tries[1:])
    said = "".join(path.read_text() for path in logs_of(sweep))
    # all by their own clock: a warning of Slurm, 90 s before the limit, would come at the start
    assert said.count("the time limit of 1 minutes is near; run it again") == len(tries) - 1


# An `sbatch` that stops before the first submission until the test has seen it.
GATE = """#!/bin/sh
case "$*" in
*--test-only*) ;;
*) : > "{home}/asked"; while [ ! -e "{home}/go" ]; do sleep 0.2; done ;;
esac
exec /usr/bin/sbatch "$@"
"""


@pytest.mark.long
def test_the_controller_is_away(cluster: Cluster, ready: SlurmSweep) -> None:
    """Submission waits: no try is lost, though the profile allows none."""
    sweep = ready
    sweep.change_profile(retries=0)
    gate = sweep.home / "bin/sbatch"
    gate.parent.mkdir()
    gate.write_text(GATE.format(home=sweep.home))
    gate.chmod(0o755)
    path = sweep.environment(sweep.commands)["PATH"]
    process = sweep.start("--until", "train", PATH=f"{gate.parent}:{path}")
    wait_for((sweep.home / "asked").exists, "the first submission", seconds=120)
    cluster.kill("slurmctld")
    (sweep.home / "go").touch()

    def is_refused() -> bool:
        said = (sweep.home / "printed").read_text()
        return process.poll() is not None or "submission waits" in said

    try:
        wait_for(is_refused, "a refusal", seconds=240)
        time.sleep(AWAY)
        assert process.poll() is None
    finally:
        cluster.start_controller()
    said = sweep.finish(process)
    assert said.count("slurm: submission waits, no try is lost: ") == 1
    assert "slurm: submission goes on" in said
    assert len(logs_of(sweep)) == 1


def test_the_queue_is_full(sweep: SlurmSweep) -> None:
    """Two jobs of a user, one of them another's: submission waits for a place."""
    manage = ["sacctmgr", "-i", "modify", "user", "root", "set"]
    subprocess.run([*manage, "MaxSubmitJobs=1"], check=True, capture_output=True)
    other = ["sbatch", "--parsable", "--hold", "-o", "/dev/null", "--wrap", "true"]
    job = subprocess.run(other, check=True, capture_output=True, text=True).stdout.strip()
    try:
        sweep.change_profile(retries=0)
        process = sweep.start("--until", "train")
        printed = sweep.home / "printed"
        wait_for(lambda: "submission waits" in printed.read_text(), "a refusal", seconds=120)
        assert "slurm: at most 1 jobs in the queue, as Slurm allows" in printed.read_text()
        subprocess.run(["scancel", job], check=True)
        sweep.finish(process)
        assert printed.read_text().count("submission waits") == 1  # its own jobs wait before
        assert len(logs_of(sweep)) == 1
    finally:
        subprocess.run(["scancel", job], check=False)
        subprocess.run([*manage, "MaxSubmitJobs=-1"], check=True, capture_output=True)


def test_a_job_that_is_held_is_said(ready: SlurmSweep) -> None:
    """On the terminal, once, and in the status; it goes on when it is released."""
    sweep = ready
    sweep.fill_in(slurm_extra="'--hold'")
    process = sweep.start("--until", "train")
    printed, words = sweep.home / "printed", "waits in the queue (JobHeldUser): it is held"
    wait_for(lambda: words in printed.read_text(), "the reason", seconds=240)
    row = next(x for x in status(sweep.home / "out") if x["point"] == POINT)
    assert row["state"] == "waiting" and words in row["note"]
    assert row["queue"].startswith("pending (job ") and row["pack"] == PACK
    job = output("squeue", "-h", "-t", "PD", "-o", "%i").strip()
    assert f"slurm: train/{PACK}: job {job} {words}" in printed.read_text()
    key, point = output("squeue", "-h", "-j", job, "-o", "%k").split()
    assert key.startswith(f"train/{PACK}=") and point == POINT
    subprocess.run(["scontrol", "release", job], check=True)
    assert sweep.finish(process).count(words) == 1
    row = next(x for x in status(sweep.home / "out") if x["point"] == POINT)
    assert (row["state"], row["note"], row["queue"]) == ("trained", "", "")
    trained = of_point(Sweep.load(sweep.home / "out/plan.json"), POINT)[0]
    assert (trained["state"], trained["queue"]) == ("done", f"ended (job {job})")
    assert [Path(trained["cluster_log"])] == logs_of(sweep) and Path(trained["log"]).is_file()
