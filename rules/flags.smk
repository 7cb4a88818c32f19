# The config as options of `mace-lora`: what each rule's command gets.

import json
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(workflow.current_basedir).parent)
)  # this clone's library, not another's
from lora.plan.code import code_of as digest_of_code


def train_points(wildcards):
    """The points of a pack and what each has over the settings of all, as `--points`."""
    common = config["train"]
    own = {
        point: {k: v for k, v in settings_by_name(point).items() if common.get(k) != v}
        for point in PACKS[wildcards.pack]
    }
    return shlex.quote(json.dumps(own))


def replay_files(wildcards):
    """The structures that a pack replays, if it does."""
    s = settings_by_name(PACKS[wildcards.pack][0])
    return rules.replay.output.structures if s.get("protocol") == "replay" else []


def replay_flags(wildcards):
    """The same as an option of `mace-lora train`."""
    return as_flags({"replay_file": str(x) for x in [replay_files(wildcards)] if x})


def times_failed(wildcards):
    """How often points of a pack failed; counted up by `train`, which then has to run again."""
    failed = RECEIPTS / wildcards.pack / "failed.json"
    return read_record(failed, {}).get("times", 0)


def train_program():
    """What starts a training: the command, or torchrun with a process a GPU."""
    processes = config["pack"]["gpus"]
    if processes == 1:
        return "mace-lora"
    return f"torchrun --standalone --nproc_per_node {processes} -m lora.cli"


def live_store():
    """The server that trainings tell of their epochs while they run, or null."""
    tracking = config["tracking"]
    return {k: tracking[k] for k in ("uri", "experiment")} if tracking["live"] else None


def tracks_missed():
    """How often the store was down; counted up by `track`, which then has to run again."""
    return read_record(LIVE_RECORD.with_name("missed.json"), {}).get("times", 0)


def split_flags():
    """The settings of `data` and `split` as options of `mace-lora split`."""
    keys = {k: v for k, v in config["data"].items() if k.endswith("_key")}
    sets = [f"--test_set {x['name']} {shlex.quote(x['file'])}" for x in config["data"]["test_sets"]]
    return " ".join([as_flags(config["split"] | keys), *sets])


def replay_settings():
    """The settings of `replay` as options of `mace-lora replay`."""
    own = {k: v for k, v in config["replay"].items() if k in ("labels", "num_samples", "seed")}
    keys = {k: v for k, v in config["data"].items() if k.endswith("_key")}
    return as_flags(own | keys)


def e0s_flags():
    """The settings of `e0s` as options of `mace-lora e0s`."""
    settings = config["e0s"]
    flags = as_flags({key: settings[key] for key in ("method", "max_error")})
    dtype = as_flags({"dtype": DTYPE})
    return " ".join([flags, dtype, "" if settings["stop"] else "--no_stop"])


def adapter_files(wildcards):
    """What has to be there before a pack can be merged: its training, or its cuts."""
    pack = wildcards.pack
    if pack.startswith("cut_s"):
        return expand(rules.truncate.output, point=PACKS[pack])
    return [] if pack == "foundation" else expand(rules.train.output, pack=pack)


def uncut_files(wildcards):
    """The training that a cut point is cut from."""
    return expand(rules.train.output, pack=PACK_OF[CUTS[wildcards.point][0]])


def truncate_flags(wildcards):
    """Which adapter to cut, and to what."""
    source, rank = CUTS[wildcards.point]
    return as_flags({"adapter": f"{RESULTS}/train/{source}/adapter", "rank": rank})


def merge_flags(wildcards):
    """What to merge into which files: adapters, or for the point `foundation` only the new E0s."""
    members = PACKS[wildcards.pack]
    outs = {"out": [f"{RESULTS}/merge/{point}/{point}.model" for point in members]}
    if members == ["foundation"]:
        return as_flags({"e0s_file": rules.e0s.output[0], "dtype": DTYPE} | outs)
    made = [f"{RESULTS}/{'truncate' if x in CUTS else 'train'}/{x}/adapter" for x in members]
    return as_flags({"adapter": made} | outs)


def evaluate_flags(wildcards):
    """Which models to evaluate, into which files."""
    members = PACKS[wildcards.pack]
    models = [shlex.quote(f"{RESULTS}/merge/{point}/{point}.model") for point in members]
    outs = {"out": [f"{RESULTS}/evaluate/{point}.json" for point in members]}
    return " ".join([*models, as_flags(outs)])


def check_flags(wildcards):
    """Which models to check, into which files."""
    members = PACKS[wildcards.pack]
    models = [shlex.quote(f"{RESULTS}/merge/{point}/{point}.model") for point in members]
    outs = {"out": [f"{RESULTS}/check/{point}.json" for point in members]}
    return " ".join([*models, as_flags(outs)])


def check_settings(*tiers):
    """The settings of `checks` as options of `mace-lora check`: of the tiers of every point."""
    checks = config["checks"]
    names = sum((checks[tier] for tier in tiers or ("quick", "standard")), [])
    own = {k: v for k, v in checks["settings"].items() if k in names}
    keys = {k: config["data"][k] for k in ("energy_key", "forces_key")}
    flags = {"names": names, "settings": own, "holdout_file": checks["holdout_file"]}
    return as_flags(flags | keys)


def as_number(text):
    """ "8" -> 8, "0.5" -> 0.5, as YAML reads them."""
    return float(text) if re.search("[.e]", text) else int(text)


def as_flags(settings):
    """{"lr": 0.01, "ema": False} -> --lr=0.01 --no-ema; None is left to the step's default."""
    flags = []
    for key, value in settings.items():
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(value, dict):
            flags.append(f"--{key}={shlex.quote(json.dumps(value))}")
        elif isinstance(value, list):
            flags += [f"--{key}", *map(shlex.quote, value)]
        elif value is not None:
            flags.append(f"--{key}={shlex.quote(str(value))}")  # so that a value may begin with -
    return " ".join(flags)


def code_of(step):
    """A digest of the code that a step runs: edits make its outputs stale, touching does not."""
    return digest_of_code(f"lora.steps.{step}")
