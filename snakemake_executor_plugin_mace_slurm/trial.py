"""Try one job of each rule before any is submitted: what Slurm would refuse, or never start."""

import subprocess
import time
from collections import defaultdict
from typing import Any

from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_mace_slurm.words import (
    FULL,
    PROFILE,
    first_line,
    passes,
    remedy,
)

PAUSE = 5.0  # seconds between two tries while the controller is away


def try_out(executor: Any) -> None:
    """Try one job of each rule that will be submitted.

    Args:
        executor: The executor that would submit them.

    Raises:
        WorkflowError: Some would never start: a line for each reason, with the rules.
    """
    first: dict[str, Any] = {}
    for job in executor.workflow.dag.needrun_jobs():
        if not job.is_local:
            first.setdefault(job.rule.name, job)
    wrong: dict[str, list[str]] = defaultdict(list)
    for rule, job in sorted(first.items()):
        if why := too_long(executor, job) or refusal(executor, job):
            wrong[why].append(rule)
    if wrong:
        lines = [
            f"{'rules' if rules[1:] else 'rule'} {', '.join(rules)}: {why}"
            for why, rules in wrong.items()
        ]
        raise WorkflowError("nothing was submitted, for these jobs would never start:", *lines)


def too_long(executor: Any, job: Any) -> str:
    """Return why a job asks for too much time, where the user has fixed it; "" if it does not."""
    said = job.rule.resources["runtime"].raw
    asked, most = job.resources.get("runtime"), executor.longest(job)
    if not most or not isinstance(asked, int) or asked <= most:
        return ""
    if said is None or callable(said) or "attempt" in str(said):
        return ""  # computed, or more at each try: up to what there is
    return (
        f"asks for {asked} minutes, but its partition allows {most}; "
        f"set runtime {PROFILE} to {most} or less, or another slurm_partition"
    )


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
        "comment_str": f"rule_{job.rule.name}",
        "account": next(executor.get_account_arg(job)),
        "partition": executor.get_partition_arg(job),
        "workdir": executor.workflow.workdir_init,
    }
    call = get_submit_command(job, params, settings=executor.workflow.executor_settings)
    return f"{call}{set_gres_string(job)} --test-only --wrap=true"
