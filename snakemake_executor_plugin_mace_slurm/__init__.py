"""Snakemake's executor for Slurm, extended: nothing waits for ever, and no try is burnt.

- One job of each rule is tried before any is submitted (`trial`).
- What a start that was killed has left in the queue is waited for, or cancelled (`earlier`).
- A job asks for no more time than its partition allows.
- A refusal of sbatch that passes, as of a controller that is away or a full queue, is waited for.
- Jobs that wait for a reason that does not pass are said, here and in `mace-lora status`.
- Ctrl-C leaves nothing in the queue, however often it is pressed (`cancel`).
- Threads are what the profile says, whatever cores the login node has.
"""

import asyncio
import shlex
import shutil
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings as SlurmSettings
from snakemake_executor_plugin_slurm import common_settings
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_mace_slurm.ask import Partitions, most_submitted, queue
from snakemake_executor_plugin_mace_slurm.book import Book
from snakemake_executor_plugin_mace_slurm.cancel import cancel_all, heed, ignore, interrupt_once
from snakemake_executor_plugin_mace_slurm.earlier import Earlier
from snakemake_executor_plugin_mace_slurm.request import cap
from snakemake_executor_plugin_mace_slurm.sweep import InSweep
from snakemake_executor_plugin_mace_slurm.tag import Tag, members
from snakemake_executor_plugin_mace_slurm.trial import submissions, try_out
from snakemake_executor_plugin_mace_slurm.words import first_line, passes

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
PAUSES = (5.0, 60.0)  # seconds between two submissions that are refused: at first, at most
MINUTES = "MACE_LORA_MINUTES"  # tells a job on its node what it may take


@dataclass
class ExecutorSettings(SlurmSettings):  # type: ignore[misc]
    """Those of the published executor, and one more."""

    max_minutes: int = field(
        default=0,
        metadata={"help": "The most minutes of a job. 0: what sinfo says of its partition."},
    )


class Executor(SlurmExecutor):  # type: ignore[misc]
    """Submit jobs to Slurm, and wait where waiting helps."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        """Make what the thread reads that the published executor starts at once."""
        self._ending = threading.Event()
        self._refused = threading.local()
        self._said: set[str] = set()
        self._queued: set[str] = set()
        self._settled: set[str] = set()
        self._tags: dict[Any, Tag] = {}
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        """Ask Slurm for its limits and try one job of each rule.

        Raises:
            WorkflowError: sbatch is missing, or jobs would never start.
        """
        self.sweep = InSweep.of(self.workflow)
        interrupt_once()
        try:
            if not shutil.which("sbatch"):
                raise WorkflowError(
                    "sbatch is not in PATH, so nothing was submitted; run snakemake on a login "
                    "node of the cluster (there may be a module to load), or without --profile"
                )
            if self.workflow.executor_settings.array_jobs:
                raise WorkflowError(
                    "job arrays: their tasks are not known again after a kill, and a refused one "
                    "would be waited for; leave --mace-slurm-array-jobs out"
                )
            super().__post_init__(test_mode)
            # the nodes have cores of their own: those here limit no job that runs there
            self.workflow.global_resources["_cores"] = None
            jobs = submissions(self.workflow.dag)
            for job in (*(one for x in jobs for one in members(x)), *jobs):
                job._resources = None
            self.partitions = Partitions.asked()
            try_out(self)
            self.find_earlier(jobs)
            self.book = Book(self.sweep.layout if self.sweep else None, self.logger.warning)
        except WorkflowError:
            self.wait = False
            raise
        account = str(jobs[0].resources.get("slurm_account") or "") if jobs else ""
        qos = str(self.workflow.executor_settings.qos or "")
        if jobs and not qos:
            qos = str(jobs[0].resources.get("qos") or "")
        self.most = most_submitted(account, qos)
        if self.most:
            self.logger.info(f"slurm: at most {self.most} jobs in the queue, as Slurm allows")

    # --- what Slurm calls a job

    @property
    def run_uuid(self) -> str:
        """Return the name of all Slurm jobs of these results, in every start."""
        return self.sweep.name if self.sweep else self._own_name

    @run_uuid.setter
    def run_uuid(self, name: str) -> None:
        """Take the published executor's name, a new one at each start, where there is no other."""
        self._own_name = name

    def tag(self, job: Any) -> Tag:
        """Return what a job runs, and for which points."""
        if self.sweep and (found := self.sweep.tag(job)).jobs:
            return found
        return Tag({"/".join([x.rule.name, *x.wildcards]): "" for x in members(job)})

    def get_partition_arg(self, job: Any) -> str:
        """Add the comment: of two in a command, sbatch takes the second."""
        comment = shlex.quote(str(self._tags.get(job) or self.tag(job)))
        return f"{super().get_partition_arg(job)} --comment {comment}"

    # --- what an earlier start has left

    def find_earlier(self, jobs: list[Any]) -> None:
        """Cancel what an earlier start has left and nobody wants any more; let the rest go first.

        Args:
            jobs: What has to run.
        """
        self.earlier = Earlier(self.run_uuid)
        if not self.sweep:
            return
        if dropped := self.earlier.drop(self.sweep.is_stale):
            self.logger.warning(f"slurm: cancelled, as it is not as now: {', '.join(dropped)}")
        there = {key for tag in self.earlier.tags.values() for key in tag.jobs}
        if not there:
            return
        for job in (one for x in jobs for one in members(x)):
            if there & self.tag(job).jobs.keys():  # it has its place in the queue already
                self.workflow.dag._priority[job] = job.HIGHEST_PRIORITY

    def resume(self, job: Any) -> bool:
        """Wait for the job of an earlier start that does the same; return False for none."""
        tag = self._tags[job]
        number = self.earlier.take(tag, self._ending.wait)
        if number:
            self.logger.info(f"slurm: job {number} of an earlier start is waited for: {tag.name}")
            log = next(self.slurm_logdir.rglob(f"{number}.log"), Path(f"{number}.log"))
            info = SubmittedJobInfo(job, external_jobid=number, aux={"slurm_logfile": log})
            self._report_job_submission_threadsafe(info)
        return bool(number)

    # --- what a job asks for

    def longest(self, job: Any) -> int | None:
        """Return the most minutes that a job may ask for, None where no limit is known."""
        said: int = self.workflow.executor_settings.max_minutes
        return said or self.partitions.longest(str(job.resources.get("slurm_partition") or ""))

    def cap(self, job: Any) -> None:
        """Let a job ask for no more time than its partition allows."""
        cap(job, self.longest(job))

    def run_job_pre(self, job: Any) -> None:
        """Cap the time of a job before it is printed and submitted, and say what it is.

        Not where it is submitted: of several threads, only one may parse code for a digest.
        """
        self.cap(job)
        self._tags[job] = self.tag(job)
        super().run_job_pre(job)

    def get_job_exec_prefix(self, job: Any) -> str:
        """Tell the job its time: what it computes itself on the node knows no partition."""
        return f"export {MINUTES}={job.resources.get('runtime') or 0}"

    def get_job_args(self, job: Any) -> str:
        """Let the job on its node have the cores that it asked for."""
        return f"{super().get_job_args(job)} --cores {job.threads}"

    # --- submission

    def run_job(self, job: Any) -> None:
        """Submit a job; wait while Slurm refuses it for a reason that passes."""
        try:
            self._submit(job)
        except Exception as error:  # nobody else looks at what happens in this thread
            super()._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error!r}")

    def _submit(self, job: Any) -> None:
        if job.is_group():  # the folder of its log is called as that of a job
            job.wildcards = list(dict.fromkeys(y for x in members(job) for y in x.wildcards))
        if self.resume(job):
            return
        pause, longest = PAUSES
        while not self._ending.is_set():
            if self.most and len(self._queued) >= self.most:
                self._ending.wait(1.0)
                continue
            self._refused.given = None
            try:
                super().run_job(job)
            except Exception as error:  # the published executor knows no groups where it fails
                self._refused.given = SubmittedJobInfo(job), str(error)
            if not self._refused.given:
                if self._said:
                    self._said.clear()
                    self.logger.info("slurm: submission goes on")
                return
            info, said = self._refused.given
            if not passes(said):
                super()._report_job_error_threadsafe(info, said)
                return
            self.say_waiting(said.partition("error message was '")[2].partition("'.\n")[0])
            self._ending.wait(pause)
            pause = min(2 * pause, longest)

    def _report_job_error_threadsafe(self, job_info: Any, msg: str) -> None:
        """Keep a refusal of sbatch for `run_job`, which decides what follows."""
        self._refused.given = job_info, msg

    def say_waiting(self, said: str) -> None:
        """Say once that submission waits."""
        if not self._said:
            self._said.add(said)
            self.logger.warning(f"slurm: submission waits, no try is lost: {first_line(said)}")

    def report_job_submission(self, job_info: Any, register_job: bool = True) -> None:
        """Count a job that is in the queue."""
        number, log = job_info.external_jobid, job_info.aux["slurm_logfile"]
        self._queued.add(number)
        self.book.submitted(number, self._tags[job_info.job], str(log))
        super().report_job_submission(job_info, register_job)

    def report_job_success(self, job_info: Any) -> None:
        """Count a job that is not in the queue any more."""
        self._settle(job_info)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: Any, msg: str | None = None, **kwargs: Any) -> None:
        """Count a job that is not in the queue any more."""
        self._settle(job_info)
        super().report_job_error(job_info, msg, **kwargs)

    def _settle(self, job_info: Any) -> None:
        self._queued.discard(job_info.external_jobid)
        self._settled.add(job_info.external_jobid)
        self.book.over(job_info.external_jobid)

    def cancel(self) -> None:
        """Cancel all jobs, and submit none of those that wait for it."""
        ignore()
        self._ending.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        super().cancel()

    def cancel_jobs(self, active_jobs: list[Any]) -> None:
        """Cancel what is in the queue: also what the published executor does not know just now."""
        self.logger.info("slurm: cancelling all jobs; Ctrl-C is heard again after that")
        if not cancel_all(self.run_uuid, everywhere=bool(self._submitted_job_clusters)):
            self.logger.error(
                f"slurm: jobs are left in the queue; cancel them: scancel --name {self.run_uuid}"
            )
        heed()

    async def sleep(self) -> None:
        """Sleep until the next look at the queue, or the end."""
        for _ in range(int(self.next_seconds_between_status_checks)):
            if self._ending.is_set():
                return
            await asyncio.sleep(1.0)

    def shutdown(self) -> None:
        """End, and submit nothing more."""
        self._ending.set()
        super().shutdown()
        self.book.close()

    # --- jobs in the queue

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncGenerator[Any, None]:
        """Yield the jobs that go on, and those of which Slurm said nothing."""
        if not active_jobs:  # as while this executor is still being made, in another thread
            return
        left = {x.external_jobid: x for x in active_jobs}
        async for job in super().check_active_jobs(active_jobs):
            left.pop(job.external_jobid)
            yield job
        for number, job in left.items():  # the published executor forgets them
            if number not in self._settled:
                yield job
        self._look()

    def _look(self) -> None:
        """Write down how jobs stand, and say which wait for a reason that does not pass."""
        for said in self.book.look(queue(self.run_uuid) or {}):
            self.logger.warning(f"slurm: {said}")
