"""The options of `mace-lora`, a subcommand a step.

Settings have the names of the config; `mace-lora STEP --help` lists them with their defaults.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from lora.cli import shared
from lora.cli.parser import Parser
from lora.errors import UserError
from lora.files.provenance import version_of
from lora.plan.commands import MOST_CHOSEN
from lora.plan.config import Config, Export, Replay, Tracking
from lora.plan.config_data import LABELS, Audit, Data, E0s, Foundation, Split
from lora.plan.config_keep import Keep
from lora.plan.home import PACKAGE
from lora.plan.settings import DEFAULTS, OPTIONS
from lora.plan.words import did_you_mean

# steps that a sweep runs by `mace-lora STEP PLAN [NAME]`
JOBS: tuple[str, ...] = (
    "foundation",
    "split",
    "replay",
    "audit",
    "e0s",
    "keep",
    "train",
    "probe",
    "rung",
    "truncate",
    "merge",
    "evaluate",
    "check",
)
JOBS += ("shortlist", "thorough", "choose", "trust", "report", "export", "track")
PLAN = "plan.json"
RESULTS = Config.model_fields["results"].default
FOLDER = f"results folder of the sweep (default {RESULTS})"


def read(argv: list[str]) -> argparse.Namespace:
    """Return what a command says: a job of a sweep, or a step by hand; `step` says which.

    Raises UserError: there is no such command or option, or a value is of a wrong type.
    """
    if len(argv) > 1 and argv[0] in JOBS and Path(argv[1]).name == PLAN:
        return job_parser().parse_args(argv)
    step = argv[0] if argv else ""
    if not step.startswith("-") and step not in COMMANDS:
        raise UserError(_no_command(step))
    whole, steps = _parsers()
    if step in steps:
        steps[step].check_names(argv[1:])
    return whole.parse_args(argv)


def _no_command(step: str) -> str:
    """Return what is wrong with a command that there is not."""
    if step in JOBS:
        return f"it is a job of a sweep: mace-lora {step} {RESULTS}/{PLAN} [NAME]"
    what = f"there is no command {step}{did_you_mean(step, COMMANDS)}" if step else "give a command"
    return f"{what.removesuffix('?')}; the commands are {', '.join(COMMANDS)}"


def job_parser() -> argparse.ArgumentParser:
    """Return the options of a job of a sweep."""
    p = Parser(prog="mace-lora", description="Run one job of a sweep.")
    p.add_argument("step", choices=JOBS)
    p.add_argument("plan", type=Path, help="plan.json in the results folder of the sweep")
    p.add_argument("name", nargs="?", default="", help="of the point, pack, bundle, rung or page")
    p.add_argument("--threads", type=shared.count, help="CPU threads")
    p.add_argument("--minutes", type=float, help="stop a training before, with a checkpoint")
    p.add_argument(
        "--attempt", type=int, default=0, help="which try it is; at the last, what fails is marked"
    )
    return p


def parser() -> argparse.ArgumentParser:
    """Return the options of all commands by hand; `step` says which."""
    return _parsers()[0]


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of all commands, and that of each."""
    whole, each = Parser(prog="mace-lora", description="The steps of a sweep."), {}
    whole.add_argument("--version", action="version", version=f"mace-lora {version_of(PACKAGE)}")
    steps = whole.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, (said, add_options) in COMMANDS.items():
        each[name] = steps.add_parser(name, help=said, description=said)
        add_options(each[name])
    return whole, each


def _config(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", type=Path, help="the YAML file")


def _foundation_step(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help=".model file, a name MACE knows, or the folder of an adapter")
    p.add_argument("--head", help="to fine-tune, of a model that has several")
    shared.keys(p, Foundation, "licence", "base")
    p.add_argument("--out", type=Path, help="a .model file to keep it in; foundation.json beside")


def _init(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", nargs="?", help="labelled structures, extended xyz")
    p.add_argument("--foundation", help=".model file, or a name MACE knows")
    p.add_argument("--head", help="which head of a model that has several")
    p.add_argument(
        "--from",
        dest="command",
        metavar="COMMAND",
        help="a command of mace_run_train, in quotes, or its YAML file: every option is translated",
    )
    p.add_argument("--out", type=Path, default=Path("my.yaml"), help="default my.yaml")
    p.add_argument("--force", action="store_true", help="overwrite the file")
    for role in ("energy", "forces", "stress"):
        p.add_argument(f"--{role}_key", help=f"name of the {role}, where it is not found")


def _split(p: argparse.ArgumentParser) -> None:
    p.add_argument("dataset", help="labelled structures, extended xyz")
    p.add_argument("--out", required=True, help="folder for train.xyz, valid.xyz, test.xyz")
    shared.keys(p, Split, "method", "group_key", "valid_file", "test_file")
    shared.keys(p, Split, "valid_fraction", "test_fraction", "near_duplicate", kind=float)
    shared.keys(p, Split, "seed", "block_size", kind=int)
    p.add_argument("--test_set", nargs=2, action="append", metavar=("NAME", "FILE"))
    shared.keys(p, Data, *LABELS)


def _replay(p: argparse.ArgumentParser) -> None:
    p.add_argument("structures_file", help="of the foundation model's own kind")
    shared.foundation(p)
    shared.keys(p, Replay, "labels")
    shared.keys(p, Replay, "num_samples", "seed", kind=int)
    shared.keys(p, Data, *LABELS)
    p.add_argument("--out", required=True, help="replay.xyz")
    shared.threads(p)


def _audit(p: argparse.ArgumentParser) -> None:
    p.add_argument("files", nargs="+", metavar="FILE", help="labelled structures, extended xyz")
    shared.foundation(p)
    shared.keys(p, Data, *LABELS)
    shared.keys(p, Audit, "least_correlation", "outlier", "same_geometry", kind=float)
    shared.keys(p, Audit, "max_frames", "max_atoms", "seed", kind=int)
    said = Audit.model_fields["accept"].description
    p.add_argument("--accept", nargs="+", default=[], metavar="NAME", help=said)
    p.add_argument("--out", help="audit.json; without, only the table is printed")
    shared.threads(p)


def _e0s(p: argparse.ArgumentParser) -> None:
    p.add_argument("train_file", help="train.xyz of the split")
    shared.foundation(p)
    shared.keys(p, E0s, "method", "isolated_file")  # a name, or JSON values
    p.add_argument("--adapter", help="for the method adapter: the folder of a saved adapter")
    shared.keys(p, Data, *LABELS)
    shared.keys(p, E0s, "max_error", kind=float)
    p.add_argument("--no_stop", dest="stop", action="store_false", help="only warn at the gate")
    p.add_argument("--out", required=True, help="e0s.json")
    shared.threads(p)


def _keep(p: argparse.ArgumentParser) -> None:
    p.add_argument("train_file", help="train.xyz of the split")
    shared.foundation(p)
    p.add_argument("--e0s_file", required=True, help="e0s.json")
    for name, kind in (("kinds", str), ("temperatures", float)):
        field = Keep.model_fields[name]
        said = f"{field.description} (default {' '.join(map(str, field.default))})"
        said = said.replace("%", "%%")
        p.add_argument(f"--{name}", nargs="+", type=kind, default=field.default, help=said)
    shared.keys(p, Keep, "num_samples", "seed", kind=int)
    shared.batch_size(p)
    p.add_argument("--out", required=True, help="keep.xyz")
    shared.threads(p)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument("train_file", help="train.xyz of the split")
    p.add_argument("valid_file", help="valid.xyz of the split")
    shared.foundation(p)
    p.add_argument("--e0s_file", required=True, help="e0s.json")
    p.add_argument("--replay_file", help="replay.xyz, for replay")
    p.add_argument("--keep_file", help="keep.xyz, for keep")
    p.add_argument("--out", required=True, help="folder of the point, or of all points")
    p.add_argument("--points", help="a pack: JSON, {name: {setting: value}} over the settings here")
    p.add_argument("--work", help="folder of the checkpoint; default --out")
    p.add_argument("--time_limit", type=float, help="minutes; stop before with a checkpoint")
    p.add_argument(
        "--give_up",
        type=int,
        choices=[0, 1],
        default=0,
        help="1: mark points that fail and end well; the same command trains them again",
    )
    shared.receipt(p)
    for name, option in OPTIONS.items():
        shared.setting(p, name, option)
    shared.threads(p)


def _truncate(p: argparse.ArgumentParser) -> None:
    shared.foundation(p)
    p.add_argument("--adapter", required=True, help="folder of the adapter")
    p.add_argument("--rank", type=int, help="of every layer")
    p.add_argument("--energy", type=float, help="share of the squared singular values to keep")
    p.add_argument("--out", required=True, help="folder for adapter/ and spectrum.json")
    shared.threads(p)


def _merge(p: argparse.ArgumentParser) -> None:
    shared.foundation(p)
    p.add_argument("--adapter", nargs="+", type=Path, help="folders; without, only E0s are set")
    p.add_argument("--e0s_file", help="e0s.json, where there is no adapter")
    p.add_argument("--check_file", required=True, help="structures for the proof")
    dtype = DEFAULTS["default_dtype"]
    said = f"where there is no adapter (default {dtype})"
    p.add_argument("--dtype", default=dtype, help=said)
    p.add_argument("--out", nargs="+", type=Path, required=True, help="a .model file an adapter")
    shared.receipt(p)
    shared.threads(p)


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("model_file", nargs="+", type=Path, help="MACE .model files")
    p.add_argument("--valid_file", required=True)
    p.add_argument("--test_file", required=True)
    shared.batch_size(p)
    shared.device(p)
    p.add_argument(
        "--out", nargs="+", type=Path, required=True, help="a json file a model; .parquet beside"
    )
    shared.receipt(p)
    shared.threads(p)


def _check(p: argparse.ArgumentParser) -> None:
    p.add_argument("model_file", nargs="*", type=Path, help="MACE .model files")
    p.add_argument("--shortlist", help="JSON, {models: {point: file}}; results beside the receipt")
    p.add_argument("--names", nargs="+", required=True, help="of the checks")
    p.add_argument("--valid_file", required=True, help="a few of its structures are used")
    p.add_argument("--e0s_file", required=True, help="e0s.json")
    p.add_argument("--holdout_file", help="labelled by the foundation model's own level of theory")
    shared.keys(p, Data, *LABELS)
    p.add_argument("--settings", default="{}", help="JSON, {check: {argument: value}}")
    shared.device(p)
    p.add_argument("--out", nargs="+", type=Path, help="a json file a model")
    shared.receipt(p)
    shared.threads(p)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", nargs="?", default=RESULTS, help=f"{FOLDER}, or a .model file")
    p.add_argument("--point", help="of the sweep; its chosen one by default")
    p.add_argument("--out", help="folder; default export/POINT in the results folder")
    p.add_argument("--engines", nargs="+", help="default: all but cueq")
    p.add_argument("--dtype", choices=["float32", "float64"], help="default: as merged")
    p.add_argument("--head", help="of a model file with several")
    p.add_argument("--verify", dest="check", action="store_true", help="run each that is installed")
    p.add_argument("--structures_file", help="to run; default the validation set of the sweep")
    shared.keys(p, Export, "steps", kind=int)
    p.add_argument("--base_licence", help="of the base, for the card; default as in the sweep")
    p.add_argument("--data_licence", help="for the card")
    shared.receipt(p)
    shared.threads(p)


def _select(p: argparse.ArgumentParser) -> None:
    p.add_argument("pool", help="frames to choose from, extended xyz, as an MD has left them")
    said = ".model file, a name MACE knows, or the folder of an adapter"
    p.add_argument("--model", required=True, help=said)
    p.add_argument("--head", help="of a model that has several")
    shared.keys(p, Foundation, "base")
    p.add_argument("--train", nargs="+", required=True, help="structures that it was trained on")
    said = f"the most that are chosen (default {MOST_CHOSEN})"
    p.add_argument("--count", type=shared.count, default=MOST_CHOSEN, help=said)
    p.add_argument("--score", help="a number in comment or columns of each frame: an uncertainty")
    p.add_argument("--above", type=float, help="only frames whose score is above this")
    shared.keys(p, Data, *LABELS)
    p.add_argument("--out", required=True, help="the frames that are chosen, extended xyz")
    shared.threads(p)


def _label(p: argparse.ArgumentParser) -> None:
    p.add_argument("frames", help="frames to label, extended xyz")
    p.add_argument("--command", help="with {input} and {output}, which stand for files")
    p.add_argument("--folder", help="for a folder a frame, with its input and its output")
    shared.keys(p, Data, *LABELS)
    p.add_argument("--out", required=True, help="the frames with their labels, extended xyz")


def _track(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", help="results folder of the sweep")
    p.add_argument("--uri", help="tracking server; default an SQLite file in the results folder")
    shared.keys(p, Tracking, "experiment")
    p.add_argument("--model", help="name to register the chosen model by")
    p.add_argument("--or_later", action="store_true", help="a store that is down is no error")


def _status(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help=FOLDER)
    p.add_argument("point", nargs="?", help="show the jobs of one point, and where their logs are")
    p.add_argument("--watch", type=float, metavar="SECONDS", help="show it again and again")


def _verify(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help=FOLDER)


def _ui(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help=FOLDER)
    p.add_argument("--port", type=int, default=5000, help="the first one to try (default 5000)")
    p.add_argument("--no_browser", dest="browser", action="store_false", help="print the link only")


def _completion(p: argparse.ArgumentParser) -> None:
    p.add_argument("shell", choices=["bash", "zsh"], help='eval "$(mace-lora completion bash)"')


# every command by hand: what it is for, and its options
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "init": ("write a config, from a look at the data or from a mace_run_train command", _init),
    "config": ("check a config: all mistakes at once, with file and line", _config),
    "foundation": ("what a foundation model is, and whether it works here", _foundation_step),
    "split": ("training, validation and test sets, with a leakage check", _split),
    "replay": ("structures that remind of the foundation model, labelled", _replay),
    "audit": ("labels against the foundation model's own predictions: units, signs, ...", _audit),
    "e0s": ("atomic reference energies of the new level of theory", _e0s),
    "keep": ("structures around the training set, labelled by the foundation model", _keep),
    "train": ("fine-tune: LoRA, full or freeze", _train),
    "truncate": ("cut an adapter to a lower rank, exactly", _truncate),
    "merge": ("write an adapter into its foundation model, with proof", _merge),
    "evaluate": ("errors of merged models", _evaluate),
    "check": ("what test sets do not tell: forgetting, holes, drift, ...", _check),
    "export": ("a model for ASE, torch-sim, OpenMM, LAMMPS, with proof", _export),
    "select": ("frames to label: the farthest from the training set", _select),
    "label": ("label frames by a command of yours, or collect what was labelled", _label),
    "track": ("fill MLflow from the files of a sweep", _track),
    "status": ("the state of every point of a sweep, also while it runs", _status),
    "verify": ("check every file of a sweep against its seals", _verify),
    "ui": ("MLflow's comparison UI on the store of a sweep", _ui),
    "completion": ("what bash or zsh need to complete these commands", _completion),
}
