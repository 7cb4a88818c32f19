# What a run on a cluster will take, said before anything is submitted.

import math
import statistics
import sys

MINUTES_UNKNOWN = 240  # of a training whose speed is not known yet
MINUTES_RECORD = PACK_RECORD.with_name("minutes.json")
TRIES_RECORD = PACK_RECORD.with_name("tries.json")
RECEIPTS = PACK_RECORD.with_name("packs")
ON_CLUSTER = workflow.resource_settings.nodes is not None  # jobs are submitted, not run here


def check_profile():
    """A profile has places to fill in; say which, instead of submitting what must fail."""
    for name, resource in (workflow.resource_settings.default_resources or {}).items():
        if "FILL_IN" in str(getattr(resource, "raw", resource)):
            raise WorkflowError(
                f"profile: default-resources: {name} is not filled in; write yours into the "
                "profile's config.yaml, or delete the line where your cluster wants none"
            )


def seconds_a_point():
    """Median seconds of the LoRA points that are trained, None if there are none."""
    receipts = [read_record(path, {}) for path in RECEIPTS.glob("lora_*.json")]
    seconds = [x["seconds"] for found in receipts for name, x in found.items() if name != "seal"]
    return statistics.median(seconds) if seconds else None


def make_minutes(known):
    """Minutes of a job for each pack: three times what trained points took, or 240; 0 is no limit.

    Jobs read what was written down when the sweep started, so that both know the same.
    """
    if not workflow.is_main_process:
        return read_record(MINUTES_RECORD, {})
    if not ON_CLUSTER:
        return {}
    return {
        pack: math.ceil(10 + 3 * known * len(PACKS[pack]) / 60) if known else MINUTES_UNKNOWN
        for pack in TRAINED
    }


def train_minutes(wildcards, attempt):
    """Minutes of a training job, more at each try; 0, no limit, on this machine."""
    return MINUTES.get(wildcards.pack, 0) * attempt


def how_many_tries():
    """How often a job is tried; a job on a cluster is told by a file."""
    if not workflow.is_main_process:
        return read_record(TRIES_RECORD, 1)
    return 1 + workflow.execution_settings.retries  # not known yet while rules are read


def is_last_try(wildcards, attempt):
    """1 at the last try of a training, at which points that fail are marked and left behind."""
    return int(attempt >= how_many_tries())


def say_plan(known):
    """One line about the trainings to come: jobs, GPUs and hours."""
    todo = [pack for pack in TRAINED if not (RECEIPTS / f"{pack}.json").is_file()]
    points = sum(len(PACKS[pack]) for pack in todo)
    hours = f"about {known * points / 3600:.1f} GPU hours" if known else "no time known yet"
    print(
        f"plan: {points} points to train in {len(todo)} jobs, a GPU each, at most "
        f"{workflow.resource_settings.nodes} at a time; {hours}; limits of "
        f"{sum(MINUTES[pack] for pack in todo) / 60:.0f} hours in all "
        "(pack.size in the config: more points a job, fewer GPUs)",
        file=sys.stderr,
    )


check_profile()
SUBMITS = ON_CLUSTER and workflow.is_main_process  # else nothing of this needs to be read
SECONDS = seconds_a_point() if SUBMITS else None
MINUTES = make_minutes(SECONDS)
if SUBMITS:
    say_plan(SECONDS)
