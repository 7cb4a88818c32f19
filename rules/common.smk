# The plan of the sweep, and how the rules ask it.  The dates of what a job reads say nothing: it
# runs again when the plan makes its mark newer than its receipt.

import sys
from pathlib import Path

ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT))  # this clone's library, not another's

from lora.plan import warm
from lora.plan.start import Start
from lora.plan.sweep import Sweep

START = Start(
    main=workflow.is_main_process,
    dry=workflow.output_settings.dryrun,
    locked=any(Path(".snakemake/locks").glob("*")),
    cores=workflow.cores or 1,
    nodes=workflow.resource_settings.nodes,
    resources=workflow.resource_settings.default_resources or {},
    of_rules=workflow.resource_settings.overwrite_resources,
)
SWEEP = Sweep.begin_or_exit(config, START)
warm.start(START, jobs=len(SWEEP.running))
LAYOUT, PLAN = SWEEP.layout, SWEEP.layout.plan
ENV = ROOT / "envs/mace-lora.yaml"
config["results"] = SWEEP.config.results


def mark(*job):
    """Return the mark of a job: step, and page or none where the wildcards say the name."""

    def found(wildcards):
        SWEEP.force(frozenset(workflow.dag_settings.forcerun), START)  # -R is known only now
        return SWEEP.mark(*job, *wildcards)

    return found


def needs(*job):
    """Return what a job reads: files of the user, and receipts of other jobs.

    Their dates count only for receipts that are made anew, so that the job follows them.
    """

    def found(wildcards):
        files = SWEEP.needs(*job, *wildcards)
        return [x if x in SWEEP.running else ancient(x) for x in files]

    return found


def minutes(wildcards, attempt):
    """Return the minutes of a try of a training, more at each; 0 for no limit."""
    return SWEEP.time_limit(wildcards.pack, attempt)


def this_try(wildcards, attempt):
    """Return the number of a try; of how many, the main process writes down."""
    if workflow.is_main_process and not workflow.dryrun:
        SWEEP.note_tries(1 + workflow.execution_settings.retries)
    return attempt


wildcard_constraints:
    point="[A-Za-z0-9_.+-]+",
    pack="[A-Za-z0-9_.+-]+",
    bundle="[A-Za-z0-9_.+-]+",
    rung="[0-9]+",
