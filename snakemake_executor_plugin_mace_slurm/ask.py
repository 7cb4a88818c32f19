"""Ask Slurm for its limits."""

import getpass
import re
import subprocess
from dataclasses import dataclass

SECONDS = 30  # that a question may take


def answer(*command: str) -> str | None:
    """Return what a command prints; None where it fails, is missing or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def ask(*command: str) -> str:
    """Return what a command prints; "" where it fails, is missing or does not answer."""
    return answer(*command) or ""


@dataclass(frozen=True)
class Entry:
    """A job in the queue.

    number: of the job
    state: PENDING, RUNNING, COMPLETING, ...
    reason: for which it waits
    comment: what it is
    """

    number: str
    state: str
    reason: str
    comment: str

    @property
    def goes_on(self) -> bool:
        """Return False where it was cancelled or is over, and may only have to write its last."""
        return self.state != "COMPLETING"


def queue(name: str) -> dict[str, Entry] | None:
    """Return the jobs of a name that are in the queue, by number; None where nobody answers."""
    text = answer("squeue", "-h", "--name", name, "-o", "%i|%T|%r|%k")
    if text is None:
        return None
    rows = (x.split("|", 3) for x in text.splitlines())
    return {row[0]: Entry(*row) for row in rows if len(row) == 4}


@dataclass(frozen=True)
class Partitions:
    """The longest time of each partition, in minutes; None where there is no limit.

    minutes: by name
    default: the partition of a job that names none
    """

    minutes: dict[str, int | None]
    default: str = ""

    @classmethod
    def asked(cls) -> "Partitions":
        """Ask sinfo."""
        rows = [x.split("|") for x in ask("sinfo", "-h", "-o", "%P|%l").splitlines() if "|" in x]
        default = next((name.rstrip("*") for name, _ in rows if name.endswith("*")), "")
        return cls({name.rstrip("*"): minutes_of(text) for name, text in rows}, default)

    def longest(self, names: str) -> int | None:
        """Return the most minutes that one of some partitions allows; None for no limit known."""
        found = [self.minutes.get(x) for x in (names or self.default).split(",")]
        known = [x for x in found if x is not None]
        return max(known) if known and len(known) == len(found) else None


def minutes_of(text: str) -> int | None:
    """Return the minutes of a duration as Slurm writes it: 1-12:00:00, 6:00:00, 30:00."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not found:
        return None
    days, hours, minutes, _ = (int(x or 0) for x in found.groups())
    return 24 * 60 * days + 60 * hours + minutes


def most_submitted(account: str, qos: str) -> int | None:
    """Return how many jobs the user may have in the queue; None where no limit can be asked.

    Args:
        account: Of the jobs, "" for the user's default.
        qos: Of the jobs, "" for that of the association.
    """
    fields = "format=account,defaultqos,maxsubmitjobs"
    user = f"user={getpass.getuser()}"
    text = ask("sacctmgr", "-n", "-P", "show", "associations", user, fields)
    rows = [x.split("|") for x in text.splitlines() if x.count("|") == 2]
    rows = [x for x in rows if not account or x[0] == account]
    limits = [int(x[2]) for x in rows if x[2].isdigit()]
    names = {qos} if qos else {x[1] for x in rows}
    of_qos = ask("sacctmgr", "-n", "-P", "show", "qos", "format=name,maxsubmitjobsperuser")
    for name, _, limit in (x.partition("|") for x in of_qos.splitlines()):
        if name in names and limit.isdigit():
            limits.append(int(limit))
    return min(limits) if limits else None
