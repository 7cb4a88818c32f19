"""The options of `mace-lora`, a subcommand a step.

Settings have the names of the config; `mace-lora STEP --help` lists them with their defaults.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora.catalogue.bounds import COUNT
from lora.errors import UserError
from lora.files.provenance import version_of
from lora.files.sealed import Receipt
from lora.plan.config import Config, Export, Replay, Tracking
from lora.plan.config_data import LABELS, Audit, Data, E0s, Foundation, Split
from lora.plan.home import PACKAGE
from lora.plan.messages import problems_of
from lora.plan.options import Option
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS, OPTIONS

# steps that a sweep runs by `mace-lora STEP PLAN [NAME]`
JOBS: tuple[str, ...] = (
    "foundation",
    "split",
    "replay",
    "audit",
    "e0s",
    "train",
    "probe",
    "rung",
    "truncate",
    "merge",
    "evaluate",
    "check",
)
JOBS += ("shortlist", "thorough", "choose", "report", "export", "track")
PLAN = "plan.json"
RESULTS = Config.model_fields["results"].default


def read(argv: list[str]) -> argparse.Namespace:
    """Return what a command says: a job of a sweep, or a step by hand; `step` says which."""
    if len(argv) > 1 and argv[0] in JOBS and Path(argv[1]).name == PLAN:
        return job_parser().parse_args(argv)
    return parser().parse_args(argv)


def job_parser() -> argparse.ArgumentParser:
    """Return the options of a job of a sweep."""
    p = argparse.ArgumentParser(prog="mace-lora", description="Run one job of a sweep.")
    p.add_argument("step", choices=JOBS)
    p.add_argument("plan", type=Path, help="plan.json in the results folder of the sweep")
    p.add_argument("name", nargs="?", default="", help="of the point, pack, bundle, rung or page")
    p.add_argument("--threads", type=_count, help="CPU threads")
    p.add_argument("--minutes", type=float, help="stop a training before, with a checkpoint")
    p.add_argument(
        "--attempt", type=int, default=0, help="which try it is; at the last, what fails is marked"
    )
    return p


def parser() -> argparse.ArgumentParser:
    """Return the options of all commands by hand; `step` says which."""
    whole = argparse.ArgumentParser(prog="mace-lora", description="The steps of a sweep.")
    whole.add_argument("--version", action="version", version=f"mace-lora {version_of(PACKAGE)}")
    steps = whole.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, (said, add_options) in COMMANDS.items():
        add_options(steps.add_parser(name, help=said, description=said))
    return whole


def _config(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", type=Path, help="the YAML file")


def _foundation_step(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help=".model file, or a name MACE knows")
    p.add_argument("--head", help="to fine-tune, of a model that has several")
    _keys(p, Foundation, "licence")
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
    _keys(p, Split, "method", "group_key", "valid_file", "test_file")
    _keys(p, Split, "valid_fraction", "test_fraction", "near_duplicate", kind=float)
    _keys(p, Split, "seed", "block_size", kind=int)
    p.add_argument("--test_set", nargs=2, action="append", metavar=("NAME", "FILE"))
    _keys(p, Data, *LABELS)


def _replay(p: argparse.ArgumentParser) -> None:
    p.add_argument("structures_file", help="of the foundation model's own kind")
    _foundation(p)
    _keys(p, Replay, "labels")
    _keys(p, Replay, "num_samples", "seed", kind=int)
    _keys(p, Data, *LABELS)
    p.add_argument("--out", required=True, help="replay.xyz")
    _threads(p)


def _audit(p: argparse.ArgumentParser) -> None:
    p.add_argument("files", nargs="+", metavar="FILE", help="labelled structures, extended xyz")
    _foundation(p)
    _keys(p, Data, *LABELS)
    _keys(p, Audit, "least_correlation", "outlier", "same_geometry", kind=float)
    _keys(p, Audit, "max_frames", "max_atoms", "seed", kind=int)
    said = Audit.model_fields["accept"].description
    p.add_argument("--accept", nargs="+", default=[], metavar="NAME", help=said)
    p.add_argument("--out", help="audit.json; without, only the table is printed")
    _threads(p)


def _e0s(p: argparse.ArgumentParser) -> None:
    p.add_argument("train_file", help="train.xyz of the split")
    _foundation(p)
    _keys(p, E0s, "method", "isolated_file")  # a name, or JSON values
    _keys(p, Data, *LABELS)
    _keys(p, E0s, "max_error", kind=float)
    p.add_argument("--no_stop", dest="stop", action="store_false", help="only warn at the gate")
    p.add_argument("--out", required=True, help="e0s.json")
    _threads(p)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument("train_file", help="train.xyz of the split")
    p.add_argument("valid_file", help="valid.xyz of the split")
    _foundation(p)
    p.add_argument("--e0s_file", required=True, help="e0s.json")
    p.add_argument("--replay_file", help="replay.xyz, for replay")
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
    _receipt(p)
    for name, option in OPTIONS.items():
        _setting(p, name, option)
    _threads(p)


def _truncate(p: argparse.ArgumentParser) -> None:
    _foundation(p)
    p.add_argument("--adapter", required=True, help="folder of the adapter")
    p.add_argument("--rank", type=int, help="of every layer")
    p.add_argument("--energy", type=float, help="share of the squared singular values to keep")
    p.add_argument("--out", required=True, help="folder for adapter/ and spectrum.json")
    _threads(p)


def _merge(p: argparse.ArgumentParser) -> None:
    _foundation(p)
    p.add_argument("--adapter", nargs="+", type=Path, help="folders; without, only E0s are set")
    p.add_argument("--e0s_file", help="e0s.json, where there is no adapter")
    p.add_argument("--check_file", required=True, help="structures for the proof")
    p.add_argument("--dtype", default=DEFAULTS["default_dtype"], help="where there is no adapter")
    p.add_argument("--out", nargs="+", type=Path, required=True, help="a .model file an adapter")
    _receipt(p)
    _threads(p)


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("model_file", nargs="+", type=Path, help="MACE .model files")
    p.add_argument("--valid_file", required=True)
    p.add_argument("--test_file", required=True)
    p.add_argument("--batch_size", type=_count, default=DEFAULTS["valid_batch_size"])
    p.add_argument("--device", default=DEFAULTS["device"])
    p.add_argument(
        "--out", nargs="+", type=Path, required=True, help="a json file a model; .parquet beside"
    )
    _receipt(p)
    _threads(p)


def _check(p: argparse.ArgumentParser) -> None:
    p.add_argument("model_file", nargs="*", type=Path, help="MACE .model files")
    p.add_argument("--shortlist", help="JSON, {models: {point: file}}; results beside the receipt")
    p.add_argument("--names", nargs="+", required=True, help="of the checks")
    p.add_argument("--valid_file", required=True, help="a few of its structures are used")
    p.add_argument("--e0s_file", required=True, help="e0s.json")
    p.add_argument("--holdout_file", help="labelled by the foundation model's own level of theory")
    _keys(p, Data, *LABELS)
    p.add_argument("--settings", default="{}", help="JSON, {check: {argument: value}}")
    p.add_argument("--device", default=DEFAULTS["device"])
    p.add_argument("--out", nargs="+", type=Path, help="a json file a model")
    _receipt(p)
    _threads(p)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument("source", nargs="?", default=RESULTS, help="results folder, or a .model file")
    p.add_argument("--point", help="of the sweep; its chosen one by default")
    p.add_argument("--out", help="folder; default export/POINT in the results folder")
    p.add_argument("--engines", nargs="+", help="default: all but cueq")
    p.add_argument("--dtype", choices=["float32", "float64"], help="default: as merged")
    p.add_argument("--head", help="of a model file with several")
    p.add_argument("--verify", dest="check", action="store_true", help="run each that is installed")
    p.add_argument("--structures_file", help="to run; default the validation set of the sweep")
    _keys(p, Export, "steps", kind=int)
    p.add_argument("--base_licence", help="of the base, for the card; default as in the sweep")
    p.add_argument("--data_licence", help="for the card")
    _receipt(p)
    _threads(p)


def _track(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", help="results folder of the sweep")
    p.add_argument("--uri", help="tracking server; default an SQLite file in the results folder")
    _keys(p, Tracking, "experiment")
    p.add_argument("--model", help="name to register the chosen model by")
    p.add_argument("--or_later", action="store_true", help="a store that is down is no error")


def _status(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help="results folder of the sweep")
    p.add_argument("point", nargs="?", help="show the jobs of one point, and where their logs are")
    p.add_argument("--watch", type=float, metavar="SECONDS", help="show it again and again")


def _verify(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help="results folder of the sweep")


def _ui(p: argparse.ArgumentParser) -> None:
    p.add_argument("results", nargs="?", default=RESULTS, help="results folder of the sweep")
    p.add_argument("--port", type=int, default=5000, help="the first one to try")
    p.add_argument("--no_browser", dest="browser", action="store_false", help="print the link only")


def _keys(
    p: argparse.ArgumentParser, section: type[Section], *names: str, kind: type = str
) -> None:
    """Add options for keys of a section of the config, with its defaults and descriptions."""
    for name in names:
        field = section.model_fields[name]
        said = f"{field.description} (default {field.default})".replace("%", "%%")
        whole = kind is str or section is Audit  # whose step checks all of it
        read = kind if whole else _checked(section, name, kind)
        p.add_argument(f"--{name}", type=read, default=field.default, help=said)


def _checked(section: type[Section], name: str, kind: type) -> Callable[[str], Any]:
    """Return what reads a number as the config takes it."""

    def read(text: str) -> Any:
        value = kind(text)
        try:
            section(**{name: value})
        except ValidationError as error:
            said = next(problems_of(error)).text
            raise UserError(f"{section.__name__.lower()}.{name}: {said}") from None
        return value

    read.__name__ = kind.__name__  # which argparse names where it is no number
    return read


def _count(text: str) -> int:
    """Return a number of things."""
    if not COUNT.admits(value := int(text)):
        raise argparse.ArgumentTypeError(f"{value} must be {COUNT}")
    return value


def _foundation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--foundation", required=True, help=".model file, or a name MACE knows")
    parser.add_argument("--head", help="which head of a model that has several")


def _receipt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--receipt", type=_to_receipt, help="json file: what was found of each point"
    )


def _to_receipt(path: str) -> Receipt:
    return Receipt(Path(path))


def _threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_count, help="CPU threads")


def _setting(parser: argparse.ArgumentParser, name: str, option: Option) -> None:
    """Add an option for a setting of a training."""
    default = DEFAULTS[name]
    if option.kind is bool:
        action = argparse.BooleanOptionalAction
        parser.add_argument(f"--{name}", action=action, default=default, help=option.help)
    elif option.kind is dict:
        parser.add_argument(f"--{name}", default="{}", help=f"JSON. {option.help}")
    else:
        said = f"{option.help} (default {default})".replace("%", "%%")
        parser.add_argument(
            f"--{name}",
            type=option.kind,
            default=default,
            choices=option.choices if option.kind is str and option.choices else None,
            help=said,
        )


# every command by hand: what it is for, and its options
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "init": ("write a config, from a look at the data or from a mace_run_train command", _init),
    "config": ("check a config: all mistakes at once, with file and line", _config),
    "foundation": ("what a foundation model is, and whether it works here", _foundation_step),
    "split": ("training, validation and test sets, with a leakage check", _split),
    "replay": ("structures that remind of the foundation model, labelled", _replay),
    "audit": ("labels against the foundation model's own predictions: units, signs, ...", _audit),
    "e0s": ("atomic reference energies of the new level of theory", _e0s),
    "train": ("fine-tune: LoRA, full or freeze", _train),
    "truncate": ("cut an adapter to a lower rank, exactly", _truncate),
    "merge": ("write an adapter into its foundation model, with proof", _merge),
    "evaluate": ("errors of merged models", _evaluate),
    "check": ("what test sets do not tell: forgetting, holes, drift, ...", _check),
    "export": ("a model for ASE, torch-sim, OpenMM, LAMMPS, with proof", _export),
    "track": ("fill MLflow from the files of a sweep", _track),
    "status": ("the state of every point of a sweep, also while it runs", _status),
    "verify": ("check every file of a sweep against its seals", _verify),
    "ui": ("MLflow's comparison UI on the store of a sweep", _ui),
}
