# The checked config, the points of the grid, and what rules share.

import ast
import hashlib
import itertools
import json
import re
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


def data_files():
    """The labelled files that the config names, by key."""
    named = {"data.file": config["data"]["file"]}
    named |= {f"data.test_sets.{x['name']}": x["file"] for x in config["data"]["test_sets"]}
    named |= {"checks.holdout_file": config["checks"]["holdout_file"]}
    named |= {"replay.file": config["replay"]["file"]}
    given = {f"split.{k}": config["split"].get(k) for k in ("valid_file", "test_file")}
    return {k: v for k, v in (named | given).items() if v}


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
        swept = f"_lr{lr:g}" if lr else ""
        settings = {"method": "lora", "rank": rank, "alpha": alpha, "seed": seed}
        settings |= {"scaling": grid["scaling"], **({"lr": lr} if lr else {})}
        name = f"lora_r{rank}_a{alpha:g}{swept}{mark(*variant)}_s{seed}"
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
    return ("_replay" if protocol == "replay" else "") + ("" if share == 1 else f"_f{share:g}")


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
    known = json.loads(PACK_RECORD.read_text()) if PACK_RECORD.is_file() else {}
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


def settings_by_name(point):
    """The settings of a LoRA point; a trained pack may hold points that left the grid."""
    if point in POINTS:
        return POINTS[point]
    rank, alpha, lr, replayed, share, seed = re.fullmatch(
        r"lora_r(\d+)_a([^_]+)(?:_lr([^_]+))?(_replay)?(?:_f([^_]+))?_s(\d+)", point
    ).groups()
    own = varied("replay" if replayed else "naive", float(share or 1))
    own |= {"method": "lora", "rank": int(rank), "alpha": as_number(alpha), "seed": int(seed)}
    own |= {"scaling": config["grid"]["scaling"], **({"lr": float(lr)} if lr else {})}
    return settings_of("lora") | own


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
    missed = LIVE_RECORD.with_name("missed.json")
    return json.loads(missed.read_text())["times"] if missed.is_file() else 0


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
    """{"lr": 0.01, "ema": False} -> --lr 0.01 --no-ema; None is left to the step's default."""
    flags = []
    for key, value in settings.items():
        if isinstance(value, bool):
            flags.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(value, dict):
            flags += [f"--{key}", shlex.quote(json.dumps(value))]
        elif isinstance(value, list):
            flags += [f"--{key}", *map(shlex.quote, value)]
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
    PACK_RECORD.parent.mkdir(parents=True, exist_ok=True)
    PACK_RECORD.write_text(json.dumps(PACKS, indent=2) + "\n")
    MINUTES_RECORD.write_text(json.dumps(MINUTES, indent=2) + "\n")
    CONFIG_RECORD.write_text(json.dumps(config, indent=2) + "\n")
    LIVE_RECORD.parent.mkdir(exist_ok=True)
    LIVE_RECORD.write_text(json.dumps(live_store()) + "\n")
