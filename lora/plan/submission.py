"""Say what a cluster is told of a job: what it is made of, and which points it is about."""

import hashlib
import json

from lora.plan.bundles import bundles_of
from lora.plan.freshness import Files, stamp
from lora.plan.job import Job
from lora.plan.race import fill
from lora.plan.sweep import Sweep


def identity(job: Job, files: Files) -> str:
    """Return eight hex digits that differ where a job would make something else.

    They stand for its settings, code, versions and files of the user; what it reads of other jobs
    may not be there yet.

    Args:
        job: The job.
        files: Digests of files, remembered.

    Raises:
        OSError: One of its files is missing.
    """
    text = json.dumps(stamp(job, {}, files), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def points_of(sweep: Sweep, job: Job) -> tuple[str, ...]:
    """Return the points that a job trains, merges, evaluates, checks or cuts; of others none.

    Args:
        sweep: The sweep.
        job: One of its jobs.
    """
    if job.step == "truncate":
        return (job.name,)
    if job.step == "train":
        packs = [sweep.packs[job.name]]
    else:
        packs = bundles_of(sweep.packs).get(job.name, [])
    now = fill({x.name: x for x in packs}, sweep.points, sweep.layout)
    return tuple(point.name for pack in now.values() for point in pack.points)
