# The checked config, the points of the grid, and what rules share.

import ast
import hashlib
import itertools
import json
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

ROOT = Path(workflow.current_basedir).parent


def check_config():
    """Check the config against its schema, fill defaults in, and say what is wrong in one line."""
    try:
        validate(config, ROOT / "workflow/schemas/config.schema.yaml")
    except WorkflowError as error:
        wrong = error.__context__  # jsonschema's error, with where and what
        key = ".".join(map(str, wrong.absolute_path)) or "top level"
        raise WorkflowError(f"config: {key}: {wrong.message}; see config/README.md") from None
    split = config["split"]
    if split["valid_fraction"] + split["test_fraction"] >= 1:
        raise WorkflowError(
            "config: split.valid_fraction + split.test_fraction: "
            f"{split['valid_fraction'] + split['test_fraction']:g} leaves nothing to train on; "
            "see config/README.md"
        )
    for key, path in data_files().items():
        if not Path(path).is_file():
            raise WorkflowError(f"config: {key}: {path} is not a file; paths start at {Path.cwd()}")


def data_files():
    """The labelled files that the config names, by key."""
    named = {"data.file": config["data"]["file"]}
    named |= {f"data.test_sets.{x['name']}": x["file"] for x in config["data"]["test_sets"]}
    given = {f"split.{k}": config["split"].get(k) for k in ("valid_file", "test_file")}
    return named | {k: v for k, v in given.items() if v}


def make_points():
    """Every fine-tuning to do: {name: settings of `mace-lora train`}.

    A name says what the point is, with numbers in one canonical form, so that adding a value to
    a list of the grid renames, and retrains, nothing.  lr is in the names if it is swept.
    """
    grid, points = config["grid"], {}
    rates = grid.get("lr", [None])
    for rank, alpha, lr, seed in itertools.product(
        grid["rank"], grid["alpha"], rates, grid["seed"]
    ):
        swept = f"_lr{lr:g}" if lr else ""
        settings = {"method": "lora", "rank": rank, "alpha": alpha, "seed": seed}
        settings |= {"scaling": grid["scaling"], **({"lr": lr} if lr else {})}
        points[f"lora_r{rank}_a{alpha:g}{swept}_s{seed}"] = settings
    for method, seed in itertools.product(config["baselines"], grid["seed"]):
        if method != "foundation":
            points[f"{method}_s{seed}"] = {"method": method, "seed": seed}
    return {name: {**settings_of(s["method"]), **s} for name, s in points.items()}


def make_cuts():
    """The highest rank of each LoRA training cut to the lower ones: {name: (trained point, rank)}."""
    if not config["rank_curve"]:
        return {}
    top = max(config["grid"]["rank"])
    sources = [name for name, s in POINTS.items() if s.get("rank") == top]
    lower = [rank for rank in config["grid"]["rank"] if rank < top]
    return {f"{name}_cut{rank}": (name, rank) for name in sources for rank in lower}


def settings_of(method):
    """Settings of all trainings, with those of one method over them."""
    return config["train"] | config["methods"].get(method, {})


def train_flags(wildcards):
    """The settings of a point as options of `mace-lora train`."""
    return as_flags(POINTS[wildcards.point])


def split_flags():
    """The settings of `data` and `split` as options of `mace-lora split`."""
    keys = {k: v for k, v in config["data"].items() if k.endswith("_key")}
    sets = [f"--test_set {x['name']} {shlex.quote(x['file'])}" for x in config["data"]["test_sets"]]
    return " ".join([as_flags(config["split"] | keys), *sets])


def e0s_flags():
    """The settings of `e0s` as options of `mace-lora e0s`."""
    settings = config["e0s"]
    flags = as_flags({key: settings[key] for key in ("method", "max_error")})
    dtype = as_flags({"dtype": DTYPE})
    return " ".join([flags, dtype, "" if settings["stop"] else "--no_stop"])


def adapter_files(wildcards):
    """The adapter of a point, trained or cut; the point `foundation` has none."""
    if wildcards.point in CUTS:
        return expand(rules.truncate.output[:2], point=wildcards.point)
    made = wildcards.point in POINTS
    return expand(rules.train.output[:2], point=wildcards.point) if made else []


def uncut_files(wildcards):
    """The trained adapter that a cut point is cut from."""
    return expand(rules.train.output[:2], point=CUTS[wildcards.point][0])


def truncate_flags(wildcards, input):
    """Which adapter to cut, and to what."""
    adapter = Path(input.adapter[0]).parent
    return as_flags({"adapter": str(adapter), "rank": CUTS[wildcards.point][1]})


def merge_flags(wildcards, input):
    """What to merge: an adapter, or for the point `foundation` only the new E0s."""
    if input.adapter:
        return as_flags({"adapter": str(Path(input.adapter[0]).parent)})
    return as_flags({"e0s_file": str(input.e0s), "dtype": DTYPE})


def as_flags(settings):
    """{"lr": 0.01, "ema": False} -> --lr 0.01 --no-ema; None is left to the step's default."""
    flags = []
    for key, value in settings.items():
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(value, dict):
            flags += [f"--{key}", shlex.quote(json.dumps(value))]
        elif value is not None:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            flags += [f"--{key}", shlex.quote(text)]
    return " ".join(flags)


def code_of(step):
    """A digest of the modules that a step runs: edits make its outputs stale, touching does not."""
    todo, seen = [f"{step}.py"], {}
    while todo:
        name = todo.pop()
        path = ROOT / "lora" / name
        if name in seen or not path.is_file():
            continue
        seen[name] = path.read_text()
        imported = [
            node.module
            for node in ast.walk(ast.parse(seen[name]))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lora.")
        ]
        todo += [f"{module.removeprefix('lora.')}.py" for module in imported]
    text = "".join(seen[name] for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


check_config()
RESULTS = config["results"]
FOUNDATION = config["foundation"]["model"]
FOUNDATION_FILE = [FOUNDATION] if Path(FOUNDATION).is_file() else []  # else a name MACE knows
FOUNDATION_FLAGS = as_flags({"foundation": FOUNDATION, "head": config["foundation"]["head"]})
POINTS = make_points()
CUTS = make_cuts()
TRACKED = list(POINTS) + [m for m in config["baselines"] if m == "foundation"]
ALL_POINTS = TRACKED + list(CUTS)
LORA_POINTS = [name for name, s in POINTS.items() if s["method"] == "lora"]
COMMITTEE = LORA_POINTS if len(LORA_POINTS) > 1 else []  # one point has no spread
DTYPE = config["train"].get("default_dtype", "float64")
GPUS = 1 if config["train"].get("device", "cpu").startswith("cuda") else 0
ENV = ROOT / "envs/mace-lora.yaml"


wildcard_constraints:
    point="[A-Za-z0-9_.+-]+",
