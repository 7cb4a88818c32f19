"""How long a workflow still takes, by the jobs that have ended."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

WEIGHTY = "train"  # before one of these has ended, nothing is known


@dataclass
class Pace:
    """Times of jobs, in seconds since 1970.

    todo:   how many jobs of each rule have not ended
    began:  rule and time of each job
    took:   seconds of the jobs of each rule that have ended
    times:  seconds of each job that has ended
    total:  how many jobs there will be, 0 before that is known
    first:  when the first job began
    now:    when the last one ended
    """

    todo: Counter[str] = field(default_factory=Counter)
    began: dict[int, tuple[str, float]] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    times: dict[int, float] = field(default_factory=dict)
    total: int = 0
    first: float = 0.0
    now: float = 0.0

    def expects(self, stats: Mapping[str, int]) -> None:
        """Know how many jobs of each rule there will be.

        Args:
            stats: {rule: jobs}, and their "total".
        """
        self.total = stats.get("total", 0)
        self.todo = Counter({rule: n for rule, n in stats.items() if rule != "total"})

    def begins(self, job: int, rule: str, at: float) -> None:
        """Note the start of a job, or of another try of it."""
        self.began[job] = rule, at
        self.first = self.first or at

    def ends(self, job: int, at: float) -> None:
        """Note the end of a job."""
        rule, since = self.began.get(job, ("", at))
        self.times[job] = at - since
        self.took[rule].append(at - since)
        self.todo[rule] -= 1
        self.now = at

    def seconds(self, job: int) -> float | None:
        """Return how long a job took; None where that is not known."""
        return self.times.get(job)

    def left(self) -> float | None:
        """Return the seconds to the end; None before a training, if there are any, has ended.

        Each job takes what those of its rule took on average, or, of a rule of which none has
        ended, the median of the rules: a training takes many times what most others do.  As many
        go on side by side as did so far.
        """
        todo = {rule: n for rule, n in self.todo.items() if n > 0}
        unknown = [x for x in todo if x not in self.took and x.split("_")[-1] == WEIGHTY]
        busy, elapsed = sum(self.times.values()), self.now - self.first
        if unknown or busy <= 0 or elapsed <= 0:
            return None
        of_rule = {rule: fmean(took) for rule, took in self.took.items()}
        other = median(of_rule.values())
        work = sum(n * of_rule.get(rule, other) for rule, n in todo.items())
        return work * elapsed / busy
