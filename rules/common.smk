# The plan of the sweep, and how the rules ask it.  The dates of what a job reads say nothing: it
# runs again when the plan makes its mark newer than its receipt.

import sys
from pathlib import Path

HERE = workflow.current_basedir  # this folder: of a clone, or of a forge's repository
CLONE = Path(HERE).parent if hasattr(HERE, "__fspath__") else None
if CLONE:
    sys.path.insert(0, str(CLONE))  # this clone's library, not another's
try:
    from lora.plan import home, warm
    from lora.plan.start import Start, in_use
    from lora.plan.sweep import Sweep
    from lora.plan.words import in_lines
except ImportError as error:
    sys.exit(f'{error}: pip install "mace-lora-sweep[workflow]" where snakemake runs')

home.lead_jobs()
MODULE = workflow.modifier  # how a `module` of another workflow renames rules and moves files
START = Start(
    main=workflow.is_main_process,
    dry=workflow.output_settings.dryrun,
    locked=workflow.is_main_process and in_use(config),
    cores=workflow.cores or 1,
    nodes=workflow.resource_settings.nodes,
    resources=workflow.resource_settings.default_resources or {},
    moved=bool(MODULE.path_modifier.prefix or MODULE.path_modifier.modifies_prefixes),
    provider=workflow.storage_settings.default_storage_provider or "",
    rules="" if CLONE else workflow.sourcecache.open(HERE.join("../pyproject.toml")).read(),
    of_rules=workflow.resource_settings.overwrite_resources,
)
SWEEP = Sweep.begin_or_exit(config, START)
warm.start(START, jobs=len(SWEEP.running))
for handler in workflow.logger_manager.get_log_handlers():
    if hasattr(handler, "follow"):  # of --logger mace-lora
        handler.follow(SWEEP)
LAYOUT, PLAN = SWEEP.layout, SWEEP.layout.plan
ENV = "../envs/mace-lora.yaml"
config["results"] = SWEEP.config.results


def forced():
    """Return what -R names; rules by their own names, not by those that a module gives them."""
    asked = frozenset(workflow.dag_settings.forcerun)
    if workflow.dag_settings.forceall:
        asked = frozenset(job.step for job in SWEEP.jobs.values())
    names = {x for job in SWEEP.jobs.values() for x in (job.step, job.name) if asked}
    return asked | {x for x in names if MODULE.modify_rulename(x) in asked}


def mark(*job):
    """Return the mark of a job: step, and page or none where the wildcards say the name."""

    def found(wildcards):
        SWEEP.force(forced(), START)  # -R is known only now
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
