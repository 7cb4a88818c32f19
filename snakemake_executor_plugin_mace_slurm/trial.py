"""Try one job of each rule before any is submitted: what Slurm would refuse, or never start."""

import subprocess
import time
from collections import defaultdict
from typing import Any

from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_mace_slurm.tag import members
from snakemake_executor_plugin_mace_slurm.words import (
    FULL,
    PROFILE,
    first_line,
    passes,
    remedy,
)

PAUSE = 5.0  # seconds between two tries while the controller is away


def try_out(executor: Any) -> None:
    """Try one job of each rule, or group of rules, that will be submitted.

    Args:
        executor: The executor that would submit them.

    Raises:
        WorkflowError: Some would never start: a line for each reason, with the rules.
    """
    first: dict[tuple[str, ...], Any] = {}
    for job in submissions(executor.workflow.dag):
        first.setdefault(tuple(sorted({x.rule.name for x in members(job)})), job)
    wrong: dict[str, set[str]] = defaultdict(set)
    for rules, job in sorted(first.items()):
        if why := too_long(executor, job) or refusal(executor, job):
            wrong[why].update(rules)
    if wrong:
        lines = [
            f"{'rules' if len(rules) > 1 else 'rule'} {', '.join(sorted(rules))}: {why}"
            for why, rules in wrong.items()
        ]
        raise WorkflowError("nothing was submitted, for these jobs would never start:", *lines)


def submissions(dag: Any) -> list[Any]:
    """Return what will be submitted: jobs that are in no group, and groups of jobs."""
    jobs = (x for x in dag.needrun_jobs() if not x.is_local)
    return list(dict.fromkeys(dag.get_job_group(x) or x for x in jobs))


def too_long(executor: Any, job: Any) -> str:
    """Return why a job asks for too much time, where the user has fixed it; "" if it does not.

    A group asks for the time of all its jobs; where only that is too much, it is cut to what there
    is.
    """
    for one in members(job):
        said = one.rule.resources["runtime"].raw
        asked, most = one.resources.get("runtime"), executor.longest(one)
        computed = said is None or callable(said) or "attempt" in str(said)
        if computed or not most or not isinstance(asked, int) or asked <= most:
            continue  # computed, or more at each try: up to what there is
        return (
            f"asks for {asked} minutes, but its partition allows {most}; "
            f"set runtime {PROFILE} to {most} or less, or another slurm_partition"
        )
    return ""


def refusal(executor: Any, job: Any) -> str:
    """Return why sbatch refuses a job, and what to do; "" if it takes it."""
    try:
        call = command_of(executor, job)
    except WorkflowError as error:
        return f"{first_line(str(error))}; {remedy(str(error))}"
    while True:
        done = subprocess.run(call, shell=True, capture_output=True, text=True, check=False)
        if done.returncode == 0 or FULL.search(done.stderr):  # a full queue says nothing of the job
            return ""
        if not passes(done.stderr):
            said = first_line(done.stderr)
            return f"Slurm refuses it: {said}; {remedy(done.stderr)}"
        executor.say_waiting(done.stderr)
        time.sleep(PAUSE)


def command_of(executor: Any, job: Any) -> str:
    """Return the command that would submit a job, for a try.

    Raises:
        WorkflowError: The executor refuses it itself.
    """
    executor.cap(job)
    validate_slurm_extra(job)
    params = {
        "run_uuid": executor.run_uuid,
        "slurm_logfile": "/dev/null",
        "comment_str": "a try",
        "account": next(executor.get_account_arg(job)),
        "partition": executor.get_partition_arg(job),
        "workdir": executor.workflow.workdir_init,
    }
    call = get_submit_command(job, params, settings=executor.workflow.executor_settings)
    return f"{call}{set_gres_string(job)} --test-only --wrap=true"
