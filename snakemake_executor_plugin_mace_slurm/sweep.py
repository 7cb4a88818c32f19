"""What the plan of a sweep says of the jobs of snakemake."""

from typing import Any

from snakemake_executor_plugin_mace_slurm.tag import Tag, members


class InSweep:
    """The sweep of a workflow.

    Attributes:
        layout: The paths of its results folder.
        name: Of all its Slurm jobs, the same in every start.
    """

    def __init__(self, sweep: Any, prefix: str) -> None:
        """Know the jobs of a plan by their receipts."""
        from lora.plan.freshness import Files  # of the clone in which snakemake runs
        from lora.plan.identity import place_of

        self.sweep, self.layout, self.files = sweep, sweep.layout, Files()
        self.known = {str(x.receipt): x for x in sweep.jobs.values()}
        self.name = f"{prefix or 'mace_lora'}_{place_of(self.layout)}"

    @classmethod
    def of(cls, workflow: Any) -> "InSweep | None":
        """Return the sweep of a workflow; None of a workflow that is not ours."""
        # rules of a module have globals of their own
        spaces = [workflow.globals, *(x.module_globals for x in workflow.rules)]
        sweep = next((x["SWEEP"] for x in spaces if x.get("SWEEP")), None)
        return cls(sweep, workflow.executor_settings.jobname_prefix) if sweep else None

    def tag(self, job: Any) -> Tag:
        """Return what a job or a group of jobs runs, from what, and for which points."""
        from lora.plan.submission import points_of

        receipts = [str(x.output[0]) if x.output else "" for x in members(job)]
        found = [self.known[x] for x in receipts if x in self.known]  # rules of the user's own
        points = dict.fromkeys(p for x in found for p in points_of(self.sweep, x))
        return Tag({x.key: self.identity(x) for x in found}, tuple(points))

    def identity(self, job: Any) -> str:
        """Return a digest of what a job of the plan is made of; "" before its files are there."""
        from lora.plan.submission import identity

        try:
            return str(identity(job, self.files))
        except OSError:
            return ""

    def is_stale(self, tag: Tag) -> bool:
        """Return True where a job in the queue works on what is not so any more.

        Its part of the plan is gone or is made of something else, or what it reads is made anew.
        """
        jobs = self.sweep.jobs
        if any(key not in jobs for key in tag.jobs):
            return True
        if any(digest != self.identity(jobs[key]) for key, digest in tag.jobs.items()):
            return True
        reads = {x for key in tag.jobs for x in jobs[key].needs} - tag.jobs.keys()
        return any(str(jobs[x].receipt) in self.sweep.running for x in reads)
