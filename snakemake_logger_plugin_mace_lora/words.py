"""The words of a line: what a step was about, what came of it, how long it took."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 100
LAST = 20  # lines of the log of a job that failed


@dataclass(frozen=True)
class Ended:
    """A job that has ended.

    rule:      its rule
    done:      how many have ended, with it
    total:     of how many
    seconds:   that it took, None where that is not known
    left:      seconds that the workflow still takes, None where that is not known
    wildcards: what the rule was about
    """

    rule: str
    done: int
    total: int
    seconds: float | None = None
    left: float | None = None
    wildcards: tuple[str, ...] = ()


def jobs_line(stats: Mapping[str, int]) -> str:
    """Return how many jobs of which rules there will be, in lines of the width.

    Args:
        stats: {rule: jobs}, and their "total".
    """
    each = [f"{n} {rule}" if n > 1 else rule for rule, n in stats.items() if rule != "total"]
    total = stats.get("total", 0)
    text = f"{total} {'jobs' if total != 1 else 'job'}: {', '.join(each)}"
    return textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def step_line(one: Ended, sweep: Any = None, job: Any = None) -> str:
    """Return the line of a step, cut to the width.

    Args:
        one: The job.
        sweep: The plan that it is in, if any.
        job: What the plan calls it.
    """
    rule, about, result = one.rule, " ".join(one.wildcards), ""
    if sweep is not None:
        # of the clone in which snakemake runs
        from lora.plan.submission import points_of
        from lora.report.outcome import outcome

        points = points_of(sweep, job)
        about = points[0] if len(points) == 1 else about
        about += f" ({len(points)} points)" if len(points) > 1 else ""
        result = outcome(job.step, job.receipt)
    times = "" if one.seconds is None else f"  {duration(one.seconds)}"
    times += "" if one.left is None else f", {time_left(one.left)}"
    count = f"{one.done:>{len(str(one.total))}} of {one.total}"
    what = "  ".join(x for x in (f"{count}  {rule:<10}", about, result) if x).rstrip()
    room = WIDTH - len(times)
    return (what if len(what) <= room else f"{what[: room - 3]}...") + times


def duration(seconds: float) -> str:
    """Return a time as people say it: 41 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_left(seconds: float) -> str:
    """Return how long it still takes: about 3 minutes left."""
    if seconds < 45:
        return "less than a minute left"
    if seconds >= 5400:
        return f"about {seconds / 3600:.0f} hours left"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' if minutes > 1 else ''} left"


def end_of(log: Path) -> str:
    """Return the last lines of a log, under its path.

    Args:
        log: Of a job that failed.
    """
    try:
        lines = log.read_text(errors="replace").rstrip().splitlines()
    except OSError:
        return f"{log}: there is no such log"
    if not lines:
        return f"{log}: empty"
    said = "" if len(lines) <= LAST else f", the last {LAST} of {len(lines)} lines"
    return "\n".join([f"{log}{said}:", *(f"    {line}" for line in lines[-LAST:])])
