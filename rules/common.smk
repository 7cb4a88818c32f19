# The checked config, the points of the grid, and what rules share.

import itertools
import json
import math
import os
import re
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
    for key in config:
        config[key] = whole_numbers(config[key], key)
    split = config["split"]
    if split["valid_fraction"] + split["test_fraction"] >= 1:
        raise WorkflowError(
            "config: split.valid_fraction + split.test_fraction: "
            f"{split['valid_fraction'] + split['test_fraction']:g} leaves nothing to train on; "
            "see config/README.md"
        )
    tracking = config["tracking"]
    if "@" in (tracking["uri"] or ""):
        raise WorkflowError(
            "config: tracking.uri: no user or password in it, please; set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"
        )
    replays = "replay" in config["grid"]["protocol"] + config["baselines"]
    if replays and not config["replay"]["file"]:
        raise WorkflowError(
            "config: replay.file: is needed for the protocol replay; name structures of the "
            "foundation model's own kind (labels are not needed), or leave replay out"
        )
    if tracking["live"] and not (tracking["uri"] or "").startswith("http"):
        raise WorkflowError(
            "config: tracking.live: needs a server, tracking.uri: http(s)://...; trainings on "
            "several machines must not write to one SQLite file"
        )
    for key, path in (data_files() | named_paths()).items():
        if re.search(r"[{}?\n\r]|^-", path):
            raise WorkflowError(
                f"config: {key}: {path!r} has a brace, a question mark or a line end in it, or begins "
                "with -; neither snakemake nor MLflow can work with that, rename it (or begin with ./)"
            )
    for key, path in data_files().items():
        if not Path(path).is_file():
            raise WorkflowError(f"config: {key}: {path} is not a file; paths start at {Path.cwd()}")
    quickstart = "workflow/resources/quickstart/"
    if not config["data"]["file"].startswith(quickstart):
        for key, path in data_files().items():
            if path.startswith(quickstart):
                raise WorkflowError(
                    f"config: {key}: is the quickstart's, and data.file is not; name your own, or "
                    "say test_sets: [] under data and holdout_file: null under checks"
                )


def whole_numbers(value, key):
    """Numbers in one form, 8.0 as 8, so that equal ones have equal names; none may be infinite."""
    if isinstance(value, dict):
        return {k: whole_numbers(x, f"{key}.{k}") for k, x in value.items()}
    if isinstance(value, list):
        return [whole_numbers(x, f"{key}.{i}") for i, x in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise WorkflowError(f"config: {key}: {value} is not a finite number; see config/README.md")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def data_files():
    """The labelled files that the config names, by key."""
    named = {"data.file": config["data"]["file"]}
    named |= {f"data.test_sets.{x['name']}": x["file"] for x in config["data"]["test_sets"]}
    named |= {"checks.holdout_file": config["checks"]["holdout_file"]}
    named |= {"replay.file": config["replay"]["file"]}
    given = {f"split.{k}": config["split"].get(k) for k in ("valid_file", "test_file")}
    return {k: v for k, v in (named | given).items() if v}


def named_paths():
    """The paths in the config that are no labelled data, by key."""
    return {"results": config["results"], "foundation.model": config["foundation"]["model"]}


def make_points():
    """Every fine-tuning to do: {name: settings of `mace-lora train`}.

    A name says what the point is, with numbers in one canonical form, so that adding a value to
    a list of the grid renames, and retrains, nothing.  lr is in the names if it is swept.
    """
    grid, points = config["grid"], {}
    rates = grid.get("lr", [None])
    for variant, rank, alpha, lr, seed in itertools.product(
        VARIANTS, grid["rank"], grid["alpha"], rates, grid["seed"]
    ):
        swept = f"_lr{lr}" if lr else ""
        settings = {"method": "lora", "rank": rank, "alpha": alpha, "seed": seed}
        settings |= {"scaling": grid["scaling"], **({"lr": lr} if lr else {})}
        name = f"lora_r{rank}_a{alpha}{swept}{mark(*variant)}_s{seed}"
        points[name] = settings_of("lora") | settings | varied(*variant)
    for method, share, seed in itertools.product(
        config["baselines"], grid["train_fraction"], grid["seed"]
    ):
        protocol = "replay" if method == "replay" else "naive"
        trained = "naive" if method == "replay" else method  # all weights
        settings = {"method": trained, "seed": seed} | varied(protocol, share)
        if method != "foundation":
            points[f"{method}{mark('naive', share)}_s{seed}"] = settings_of(method) | settings
    return points


def mark(protocol, share):
    """What a protocol and a share of the training set add to a name; the plain ones add nothing."""
    return ("_replay" if protocol == "replay" else "") + ("" if share == 1 else f"_f{share}")


def varied(protocol, share):
    """The settings for a protocol and a share of the training set."""
    weight = {"protocol": protocol, "replay_weight": config["replay"]["weight"]}
    replayed = weight if protocol == "replay" else {}
    return replayed | ({} if share == 1 else {"train_fraction": share})


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


def make_packs():
    """Which points share a process: {pack: [points]}.

    LoRA points of one seed and share of the data see the same batches, so they can train as one; the cuts of a seed are
    merged and evaluated as one; every other point is a pack of its own.  Who shares with whom is
    written down when a sweep starts: a grid that grows must leave trained packs as they are, and
    jobs on a cluster, which read this file again, must find the same packs.
    """
    known = read_record(PACK_RECORD, {})
    if known and not workflow.is_main_process:
        return known
    packs = {x: [x] for x in TRACKED if x not in LORA_POINTS}
    for seed in config["grid"]["seed"]:
        cuts = [x for x, (source, _) in CUTS.items() if POINTS[source]["seed"] == seed]
        packs |= {f"cut_s{seed}": cuts} if cuts else {}
    for variant, seed in itertools.product(VARIANTS, config["grid"]["seed"]):
        stem = f"lora{mark(*variant)}_s{seed}_"
        kept = {p: x for p, x in known.items() if p.startswith(stem) and still(p, x)}
        packs |= kept
        placed = sum(kept.values(), [])
        new = [x for x in LORA_POINTS if like(x) == (*variant, seed) and x not in placed]
        numbers = (n for n in itertools.count(1) if f"{stem}{n}" not in kept)
        size = pack_size(len(new))
        packs |= {f"{stem}{next(numbers)}": new[i : i + size] for i in range(0, len(new), size)}
    return packs


def like(point):
    """What points of a pack have in common: protocol, share of the training set, seed."""
    s = POINTS[point]
    return s.get("protocol", "naive"), s.get("train_fraction", 1), s["seed"]


def still(pack, members):
    """Whether a pack that was written down stands: trained, or this grid's and in training."""
    folder = PACK_RECORD.parent / "packs"
    trained, begun = folder / f"{pack}.json", folder / pack / "checkpoint.pt"
    wanted = set(members) & set(LORA_POINTS)
    return bool(wanted) and (trained.is_file() or (begun.is_file() and wanted == set(members)))


def pack_size(n):
    """How many of n points share a process; how many share a step, the training decides."""
    size = config["pack"]["size"]
    if size != "auto":
        return size
    return 8 if GPUS else max(1, min(4, -(-n // (workflow.cores or 1))))


def read_record(path, default):
    """What a JSON file beside the results says."""
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise WorkflowError(f"{path}: is damaged; delete it and run snakemake again") from None


def write_record(path, content):
    """Write such a file whole or not at all; every job reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)


def settings_by_name(point):
    """The settings of a LoRA point; a trained pack may hold points that left the grid."""
    if point in POINTS:
        return POINTS[point]
    rank, alpha, lr, replayed, share, seed = re.fullmatch(
        r"lora_r(\d+)_a([^_]+)(?:_lr([^_]+))?(_replay)?(?:_f([^_]+))?_s(\d+)", point
    ).groups()
    own = varied("replay" if replayed else "naive", float(share or 1))
    own |= {"method": "lora", "rank": int(rank), "alpha": as_number(alpha), "seed": int(seed)}
    own |= {"scaling": config["grid"]["scaling"], **({"lr": as_number(lr)} if lr else {})}
    return settings_of("lora") | own


check_config()
RESULTS = config["results"]
FOUNDATION = config["foundation"]["model"]
FOUNDATION_FILE = [FOUNDATION] if Path(FOUNDATION).is_file() else []  # else a name MACE knows
FOUNDATION_FLAGS = as_flags({"foundation": FOUNDATION, "head": config["foundation"]["head"]})
VARIANTS = list(itertools.product(config["grid"]["protocol"], config["grid"]["train_fraction"]))
POINTS = make_points()
REPLAYED = any(s.get("protocol") == "replay" for s in POINTS.values())
CUTS = make_cuts()
TRACKED = list(POINTS) + [m for m in config["baselines"] if m == "foundation"]
ALL_POINTS = TRACKED + list(CUTS)
LORA_POINTS = [name for name, s in POINTS.items() if s["method"] == "lora"]
FULL = [x for x in LORA_POINTS if like(x)[:2] == ("naive", 1)]
COMMITTEE = FULL if len(FULL) > 1 else []  # one point has no spread
HOLDOUT = [x for x in [config["checks"]["holdout_file"]] if x]
CHECKED = bool(config["checks"]["quick"] + config["checks"]["standard"])
THOROUGH = bool(config["checks"]["thorough"])
DTYPE = config["train"].get("default_dtype", "float64")
GPUS = 1 if config["train"].get("device", "cpu").startswith("cuda") else 0
ENV = ROOT / "envs/mace-lora.yaml"
PACK_RECORD = Path(RESULTS, "train", "packs.json")
CONFIG_RECORD = Path(RESULTS, "config.json")
LIVE_RECORD = Path(RESULTS, "track", "live.json")  # a file: turning it on shall retrain nothing
PACKS = make_packs()
PACK_OF = {point: pack for pack, members in PACKS.items() for point in members}
TRAINED = [pack for pack in PACKS if pack != "foundation" and not pack.startswith("cut_s")]


wildcard_constraints:
    point="[A-Za-z0-9_.+-]+",
    pack="[A-Za-z0-9_.+-]+",


onstart:
    write_record(PACK_RECORD, PACKS)
    write_record(MINUTES_RECORD, MINUTES)
    write_record(TRIES_RECORD, how_many_tries())
    write_record(CONFIG_RECORD, config)
    write_record(LIVE_RECORD, live_store())
