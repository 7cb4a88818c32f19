"""A small real Slurm on loopback: a controller and ten nodes with a fake GPU each.

Everything lies in one folder and is ended by process id.  Two things are outside: a device file
can only be made by root, and the executor plugin drops SLURM_CONF before a job's `srun`, so
/etc/slurm/slurm.conf has to lead here.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import apt

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
PACKAGES += ["slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server"]  # for accounting
ETC = Path("/etc/slurm/slurm.conf")
LOCK = "/tmp/mace-lora-slurm.lock"  # one place of the machine, whatever $TMPDIR is
FIRST_PORT = 17600
NODES = tuple(f"n{i}" for i in range(1, 9))  # a node for each training that a test disturbs
SPARE = ("m1", "m2")  # for many jobs, beside those
NO_GPU = "c1"
DAEMONS = (*NODES, *SPARE, NO_GPU)


def install() -> str:
    """Install Slurm where it is missing.  Returns why it cannot be had, "" if it can."""
    if ETC.exists() and not ETC.is_symlink():
        return f"{ETC} is a real cluster's"
    if all(
        shutil.which(name)
        for name in ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
    ):
        return "" if os.geteuid() == 0 else "needs root"
    return apt.install("Slurm", ["--no-install-recommends", *PACKAGES])


@contextmanager
def running(home: Path, accounting: bool = False) -> Iterator["Cluster"]:
    """A cluster that runs; where none can be had, the test is skipped and says so."""
    if why := install():
        warnings.warn(f"tests/slurm DID NOT RUN: {why}", stacklevel=1)
        pytest.skip(why)
    made = Cluster(home, accounting)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Cluster:
    """Partitions: `gpu`, jobs preempted and requeued by `high`; `high` and `minute`, the same
    nodes; `many` and `cpu`, others, the last without a GPU.

    With `accounting` there is a database of jobs, and one account, `lab`.  There is one cluster
    at a time on a machine: a second waits.
    """

    def __init__(self, home: Path, accounting: bool = False) -> None:
        self.home, self.processes, self.accounting = home, {}, accounting
        for name in ("log", "state", *(f"spool.{node}" for node in DAEMONS)):
            (home / name).mkdir(parents=True)
        home.chmod(0o755)
        self.conf = home / "slurm.conf"
        self.alone = os.open(LOCK, os.O_CREAT | os.O_RDWR)

    def start(self) -> None:
        fcntl.flock(self.alone, fcntl.LOCK_EX)
        key = self.home / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        socket_file = f"{self.home}/munge.sock"
        munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
        munged += [f"--socket={socket_file}", f"--pid-file={self.home}/munge.pid"]
        munged += [f"--log-file={self.home}/log/munge", f"--seed-file={self.home}/munge.seed"]
        self._run("munged", munged)
        wait_for(lambda: succeeds("munge", "-S", socket_file, "-n"), "munge")
        self._write_configuration(socket_file)
        ETC.parent.mkdir(exist_ok=True)
        ETC.unlink(missing_ok=True)
        ETC.symlink_to(self.conf)
        if self.accounting:
            self._start_database(socket_file)
        self.start_controller()
        for node in DAEMONS:
            self.start_node(node)
        self.wait_until_idle()

    def stop(self) -> None:
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=20, check=False)
        time.sleep(1)
        for name in reversed(list(self.processes)):
            self.kill(name)
        if ETC.is_symlink() and Path(os.readlink(ETC)) == self.conf:
            ETC.unlink()
        fcntl.flock(self.alone, fcntl.LOCK_UN)

    def start_controller(self) -> None:
        self._run("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        wait_for(lambda: "is UP" in output("scontrol", "ping"), "slurmctld")

    def start_node(self, node: str) -> None:
        self._run(node, ["slurmd", "-D", "-N", node, "-f", str(self.conf)])

    def kill(self, name: str) -> None:
        """End one of the daemons, and with a node what it runs."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_until_idle(self) -> None:
        idle = ("sinfo", "-h", "-N", "-p", "gpu,many,cpu", "-t", "idle", "-o", "%N")
        nodes = {*DAEMONS}
        wait_for(lambda: {*output(*idle).split()} == nodes, "idle nodes", seconds=60)

    def jobs(self) -> list[dict[str, str]]:
        """What ran so far: JobId, Name, JobState, NodeList, ... of each job that has ended."""
        path = self.home / "log/jobcomp"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines]

    def _run(self, name: str, command: list[str], **environment: str) -> None:
        with (self.home / f"log/{name}.out").open("a") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | environment,
            )

    def _start_database(self, munge_socket: str) -> None:
        data, mysql = self.home / "mysql", f"{self.home}/mysql.sock"
        own = ["--no-defaults", "--user=root", f"--datadir={data}"]
        new = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(["mariadb-install-db", *own, *new], check=True, capture_output=True)
        small = ["--skip-networking", "--innodb-buffer-pool-size=64M"]
        small += ["--innodb-lock-wait-timeout=900"]  # slurmdbd asks for it
        self._run("mariadbd", ["mariadbd", *own, f"--socket={mysql}", *small])
        client = ("mariadb", "--no-defaults", "-uroot", f"--socket={mysql}", "-e")
        wait_for(lambda: succeeds(*client, "select 1"), "mariadb")
        conf = self.home / "slurmdbd.conf"
        lines = [
            f"AuthInfo={munge_socket}",
            "DbdHost=localhost",
            f"DbdPort={FIRST_PORT + 40}",
            "SlurmUser=root",
            f"LogFile={self.home}/log/slurmdbd",
            f"PidFile={self.home}/slurmdbd.pid",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            "StorageUser=root",
            "StorageLoc=slurm_acct",
        ]
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o600)
        where = {"SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": mysql}
        self._run("slurmdbd", ["slurmdbd", "-D"], **where)
        manage = ("sacctmgr", "-i", "add")
        wait_for(lambda: succeeds(*manage, "cluster", "tests"), "slurmdbd")
        wait_for(lambda: succeeds(*manage, "account", "lab", "Cluster=tests"), "the account")
        wait_for(lambda: succeeds(*manage, "user", "root", "Account=lab"), "the user")

    def _write_configuration(self, socket_file: str) -> None:
        host = socket.gethostname().split(".")[0]
        lines = [
            "ClusterName=tests",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={FIRST_PORT}",
            "SlurmUser=root",
            "SlurmdUser=root",
            f"AuthInfo=socket={socket_file},cred_expire=10",  # a requeued job waits as long
            f"StateSaveLocation={self.home}/state",
            f"SlurmctldPidFile={self.home}/slurmctld.pid",
            f"SlurmctldLogFile={self.home}/log/slurmctld",
            f"SlurmdPidFile={self.home}/slurmd.%n.pid",
            f"SlurmdLogFile={self.home}/log/slurmd.%n",
            f"SlurmdSpoolDir={self.home}/spool.%n",
            "SlurmdParameters=config_overrides",
            "ProctrackType=proctrack/pgid",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "SwitchType=switch/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=bf_interval=5,sched_min_interval=100000,batch_sched_delay=1",
            "GresTypes=gpu",
            "ReturnToService=2",
            "MinJobAge=3600",  # squeue has to know a job long enough for the executor to ask
            "SlurmdTimeout=10",
            "KillWait=5",
            "JobRequeue=1",
            *self._accounting(socket_file),
            "JobAcctGatherType=jobacct_gather/linux",
            "JobAcctGatherFrequency=1",
            "JobAcctGatherParams=OverMemoryKill",
            "JobCompType=jobcomp/filetxt",
            f"JobCompLoc={self.home}/log/jobcomp",
            "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
            "PropagateResourceLimits=NONE",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
        ]
        gres = []
        for i, node in enumerate((*NODES, *SPARE)):
            device = self.home / f"gpu.{node}"
            subprocess.run(["mknod", device, "c", "1", "3"], check=True)  # a twin of /dev/null
            gres.append(f"NodeName={node} Name=gpu File={device} Flags=nvidia_gpu_env")
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 "
                f"Port={FIRST_PORT + 1 + i} CPUs=8 RealMemory=64000 Gres=gpu:1"
            )
        common = "MaxTime=12:00:00 DefaultTime=5 State=UP"
        gpu, many = f"Nodes={','.join(NODES)} {common}", f"Nodes={','.join(SPARE)} {common}"
        lines.append(
            f"NodeName={NO_GPU} NodeHostname={host} NodeAddr=127.0.0.1 "
            f"Port={FIRST_PORT + 1 + len(gres)} CPUs=8 RealMemory=64000"
        )
        lines += [
            f"PartitionName=cpu Nodes={NO_GPU} {common}",
            f"PartitionName=minute {gpu.replace('12:00:00', '1')} PriorityTier=1 PreemptMode=OFF",
            f"PartitionName=gpu {gpu} Default=YES PriorityTier=1 PreemptMode=REQUEUE",
            f"PartitionName=high {gpu} PriorityTier=10 PreemptMode=OFF",
            f"PartitionName=many {many}",
        ]
        self.conf.write_text("\n".join(lines) + "\n")
        (self.home / "gres.conf").write_text("\n".join(gres) + "\n")

    def _accounting(self, munge_socket: str) -> list[str]:
        if not self.accounting:
            return ["AccountingStorageType=accounting_storage/none"]
        return [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=localhost",
            f"AccountingStoragePort={FIRST_PORT + 40}",
            f"AccountingStoragePass={munge_socket}",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStorageEnforce=associations,limits,qos",
        ]


def output(*command: str) -> str:
    """What a command prints; "" if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else ""


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait_for(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)
