"""Change what a job of snakemake, or a group of jobs, asks of Slurm."""

import re
from typing import Any

WARNING = re.compile(r"\s*--signal=\S*@(\d+)")
LATE = 60  # seconds: Slurm may send a signal so much earlier than it is asked to


def set_resource(job: Any, name: str, value: int | str) -> None:
    """Set a resource that a job asks for."""
    if job.is_group():
        job._resources[name] = value
    else:
        job.resources[job.resources._names[name][0]] = value
        setattr(job.resources, name, value)


def cap(job: Any, most: int | None) -> None:
    """Let a job ask for no more time than there is, and for no warning that came at its start.

    Args:
        job: The job or group.
        most: Minutes; None for no limit.
    """
    asked = job.resources.get("runtime")
    if most and isinstance(asked, int) and asked > most:
        set_resource(job, "runtime", most)
        asked = most
    extra = job.resources.get("slurm_extra")
    found = WARNING.search(extra) if isinstance(extra, str) else None
    if found and isinstance(asked, int) and 60 * asked < 2 * (int(found[1]) + LATE):
        set_resource(job, "slurm_extra", WARNING.sub("", extra))
