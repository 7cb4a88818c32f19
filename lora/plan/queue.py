"""The jobs that a cluster was given: the executor writes them down, `mace-lora status` reads them.

Who reads asks no cluster, and may be elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from lora.files.clock import file_time
from lora.files.sealed import read_json, write_sealed
from lora.plan.layout import Layout

LATE = 600.0  # seconds after which nobody looks at the queue any more: looks are 190 s apart
ENDED = "ENDED"  # the state of a job that is not in the queue any more


@dataclass(frozen=True)
class Submission:
    """A job of a cluster.

    number: what the cluster calls it
    jobs:   of the sweep, which it runs
    state:  as the cluster says it: PENDING, RUNNING, ...; ENDED
    reason: for which it waits, in the cluster's word
    note:   what to do about that, where the reason does not pass
    log:    what the cluster and snakemake said about it
    """

    number: str
    jobs: tuple[str, ...]
    state: str
    reason: str = ""
    note: str = ""
    log: str = ""

    @property
    def goes_on(self) -> bool:
        """Return True while it is in the queue, or runs."""
        return self.state != ENDED

    def __str__(self) -> str:
        """Return its state in words: "running (job 17)", "pending (job 18, Resources)"."""
        why = (
            f", {self.reason}"
            if self.state == "PENDING" and self.reason not in ("", "None")
            else ""
        )
        return f"{self.state.lower()} (job {self.number}{why})"


@dataclass(frozen=True)
class Queue:
    """All that were given by the last start, and the last ones of the starts before.

    jobs:    by number
    at:      when the cluster was asked, in seconds since 1970, by the clock that dates files
    now:     when this was read, by the same clock
    watched: True while a snakemake looks at them
    """

    jobs: Mapping[str, Submission] = field(default_factory=dict)
    at: float = 0.0
    watched: bool = False
    now: float = 0.0

    @classmethod
    def read(cls, layout: Layout) -> "Queue":
        """Read what was written last; on one machine there is nothing.

        Raises:
            UserError: The file is damaged.
        """
        if not layout.queue.is_file():
            return cls()
        found, now = read_json(layout.queue), file_time(layout.queue.parent)
        jobs = [Submission(**x | {"jobs": tuple(x["jobs"])}) for x in found["jobs"]]
        return cls({x.number: x for x in jobs}, found["at"], found["watched"], now)

    def write(self, layout: Layout) -> None:
        """Write them, as of now."""
        jobs = [asdict(x) for x in self.jobs.values()]
        at = file_time(layout.queue.parent)
        write_sealed(layout.queue, {"at": at, "watched": self.watched, "jobs": jobs})

    @property
    def is_known(self) -> bool:
        """Return True where the states are those of now; False after a kill."""
        return self.watched and self.now - self.at < LATE

    def last(self, keys: Iterable[str]) -> Submission | None:
        """Return the one that runs one of some jobs, the last that goes on, or the last of all.

        Args:
            keys: The jobs of the sweep.
        """
        wanted = set(keys)
        found = [x for x in self.jobs.values() if wanted & {*x.jobs}]
        going = [x for x in found if x.goes_on]
        return next(reversed(going or found), None)

    def ended(self, going: Iterable[str] = ()) -> "Queue":
        """Return them with the others than some marked as ended.

        Args:
            going: The numbers of those that go on.
        """
        kept = set(going)
        jobs = {
            number: x if number in kept else replace(x, state=ENDED, reason="", note="")
            for number, x in self.jobs.items()
        }
        return replace(self, jobs=jobs)

    def given(self, one: Submission) -> "Queue":
        """Return them with another, which takes the place of earlier ones of the same jobs.

        Args:
            one: It.
        """
        others = {x.number: x for x in self.jobs.values() if not {*x.jobs} <= {*one.jobs}}
        return replace(self, jobs=others | {one.number: one})
