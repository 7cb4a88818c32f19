"""The command `mace-lora`: one subcommand a step.  Heavy imports happen inside each.

What each takes is in `lora.cli.options`.
"""

import errno
import importlib
import json
import logging
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lora.cli.grow import label, select
from lora.cli.options import read
from lora.cli.verify import verify_sweep
from lora.cli.warm import ask
from lora.errors import (
    EXIT_CODE,
    MEMORY,
    MEMORY_CODE,
    Paused,
    UserError,
    UserErrors,
    one_line,
    out_of_memory,
    trouble,
)
from lora.files.sealed import read_json
from lora.plan.commands import Base, Run
from lora.plan.config_data import LABELS
from lora.plan.settings import Targets, TrainSettings


def main(argv: list[str] | None = None) -> int:
    """Run a step, by a fork where there is a server (`lora.cli.warm`); return what `do` returns."""
    arguments = sys.argv[1:] if argv is None else argv
    code = ask(arguments)
    return do(arguments) if code is None else code


def do(arguments: list[str]) -> int:
    """Run a step in this process.

    Returns 0; 2 for a mistake of the user; 71 where memory runs out; 74 where a file cannot be
    read or written; 75 for a training to be gone on with; 130 after Ctrl-C.  All but 0 say why in
    one line on stderr.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # where a line of the log has no room, the step says why
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    step = arguments[0] if arguments else ""
    try:
        args = vars(read(arguments))
        step = args.pop("step")
        _run(step, args)
    except UserErrors as errors:
        print(*map(one_line, errors.lines), sep="\n", file=sys.stderr)
        return 2
    except UserError as error:
        said = one_line(error).removeprefix(f"{step}: ")  # as the functions name themselves
        print(f"mace-lora {step}: {said}" if step else f"mace-lora: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # what it wrote is whole, or not there
        print(f"mace-lora {step}: interrupted; run it again", file=sys.stderr)
        return 128 + signal.SIGINT
    except Paused as reason:
        print(f"mace-lora {step}: {reason}; run it again to go on", file=sys.stderr)
        return EXIT_CODE
    except Exception as error:
        return _of_the_machine(step, error)
    return 0


def _of_the_machine(step: str, error: Exception) -> int:
    """Say what the machine lacks; return the exit code, or raise what is a fault of ours."""
    if out_of_memory(error):
        print(f"mace-lora {step}: {MEMORY}", file=sys.stderr)
        return MEMORY_CODE
    if not isinstance(error, OSError) or not (error.filename or error.errno in _FULL):
        raise error  # of a network or a library: its traceback says more
    why = one_line(trouble(error))
    print(f"mace-lora {step}: {why}; run it again when that is mended", file=sys.stderr)
    return 2 if isinstance(error, FileNotFoundError) else 74  # EX_IOERR


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _job(
    step: str,
    plan: Path,
    name: str,
    threads: int | None = None,
    minutes: float | None = None,
    attempt: int = 0,
) -> None:
    """Run one job of a sweep, as its rule does."""
    from lora.steps.jobs import Given, run

    run(step, plan, name, Given(threads, minutes or None, attempt))


def _config(file: Path) -> None:
    """Read a config as a sweep would, and say all that is wrong with it."""
    from lora.plan.checking import load_config
    from lora.plan.labels import check_data_keys

    loaded = load_config(file, folder=Path.cwd())
    if wrong := check_data_keys(loaded.config):
        raise UserErrors(wrong)
    print(*loaded.warnings, f"{file}: no mistakes found", sep="\n")


def _foundation(model: str, head: str | None, out: Path | None, **said: str | None) -> None:
    """Print what a foundation model is."""
    from rich.console import Console

    from lora.report.foundation_table import table_of
    from lora.steps.foundation import foundation

    base, chosen = Base(model, head, under=said["base"]), head is not None
    found = foundation(base, out, said["licence"], choose=chosen)
    Console(width=120).print(table_of(found))


def _init(**args: Any) -> None:
    from lora.cli.init import Wish, init

    init(Wish(**args))


def _split(dataset: str, out: str, valid_file: str, test_file: str, **settings: Any) -> None:
    from lora.data.grouping import SplitSettings
    from lora.data.labels import Keys
    from lora.steps.split import split

    keys = Keys.of({name: settings.pop(name) for name in LABELS})
    given = {"valid": valid_file, "test": test_file}
    settings["given"] = {name: path for name, path in given.items() if path}
    settings["test_files"] = dict(settings.pop("test_set") or [])
    split(dataset, SplitSettings(**settings, keys=keys), out)


def _replay(**args: Any) -> None:
    from lora.data.labels import Keys
    from lora.steps.replay import ReplaySettings, replay

    settings = ReplaySettings(args["labels"], args["num_samples"], args["seed"], keys=Keys.of(args))
    replay(args["structures_file"], _base(args), args["out"], settings, _run_of(args))


def _audit(files: list[str], out: str | None, threads: int | None, **args: Any) -> None:
    from pydantic import ValidationError

    from lora.data.labels import Keys
    from lora.files.sealed import Receipt
    from lora.plan.config_data import Audit
    from lora.plan.messages import problems_of

    try:
        settings = Audit(**{name: args[name] for name in Audit.model_fields})
    except ValidationError as error:
        raise UserErrors(f"audit: {x.key[0]}: {x.text}" for x in problems_of(error)) from None
    from lora.steps.audit import audit

    run = Run(threads, Receipt(Path(out)) if out else None)
    named = {f"file {i}": path for i, path in enumerate(files)}
    audit(named, _base(args), Keys.of(args), settings, run)


def _e0s(**args: Any) -> None:
    from lora.data.labels import Keys
    from lora.steps.e0s import E0sSettings, e0s

    if args["method"].startswith("{"):  # explicit values
        args["method"] = _json(args["method"], "e0s")
    own = {k: args[k] for k in ("method", "isolated_file", "max_error", "stop", "adapter")}
    settings = E0sSettings(**own, keys=Keys.of(args))
    e0s(args["train_file"], _base(args), args["out"], settings, _run_of(args))


def _keep(**args: Any) -> None:
    from lora.steps.keep import KeepSettings, keep

    settings = KeepSettings(**{f.name: args[f.name] for f in fields(KeepSettings)})
    files = (args["train_file"], args["e0s_file"], _base(args), args["out"])
    keep(*files, settings, args["batch_size"], _run_of(args))


def _train(**args: Any) -> None:
    names = [f.name for f in fields(TrainSettings)]
    chosen = {name: args.pop(name) for name in names}
    chosen["targets"] = Targets.from_dict(_json(chosen["targets"], "targets"))
    settings, out = TrainSettings(**chosen), Path(args.pop("out"))
    points = {out: settings}
    if own := args.pop("points"):
        points = {out / name: _over(settings, x) for name, x in _json(own, "points").items()}
    points = {folder: one.resolved() for folder, one in points.items()}
    from lora.steps.train import Base, Limits, Run, TrainFiles, train_pack

    files = TrainFiles(**{f.name: args[f"{f.name}_file"] for f in fields(TrainFiles)})
    base, work = Base(args["foundation"], args["head"]), Path(args["work"] or out)
    run = Run(args["threads"], args["receipt"])
    train_pack(points, base, files, work, run, Limits(args["time_limit"], bool(args["give_up"])))


def _over(settings: TrainSettings, values: dict[str, Any]) -> TrainSettings:
    """Return the settings with those of one point over them."""
    unknown = sorted(values.keys() - {f.name for f in fields(settings)})
    if unknown:
        raise UserError(f"points: {unknown[0]} is not a setting")
    if "targets" in values:
        values = values | {"targets": Targets.from_dict(values["targets"])}
    return replace(settings, **values)


def _merge(**args: Any) -> None:
    outs, adapters = args.pop("out"), args.pop("adapter") or [None]
    if len(outs) != len(adapters):
        raise UserError(f"merge: {len(adapters)} adapters, but {len(outs)} files to write")
    from lora.steps.merge import merge

    base, run = _base_and_run(args)
    merge(base, args.pop("check_file"), dict(zip(outs, adapters, strict=True)), run=run, **args)


def _truncate(**args: Any) -> None:
    from lora.steps.truncate import truncate

    base, run = _base_and_run(args)
    truncate(base, args.pop("adapter"), args.pop("out"), run=run, **args)


def _base_and_run(args: dict[str, Any]) -> tuple[Base, Run]:
    """Take out of the options what the foundation model is and how a step is run."""
    base = Base(args.pop("foundation"), args.pop("head"))
    return base, Run(args.pop("threads"), args.pop("receipt", None))


def _evaluate(**args: Any) -> None:
    outs, models = args.pop("out"), args.pop("model_file")
    if len(outs) != len(models):
        raise UserError(f"evaluate: {len(models)} models, but {len(outs)} files to write")
    from lora.steps.evaluate import evaluate

    files = (args["valid_file"], args["test_file"])
    size, device = args["batch_size"], args["device"]
    evaluate(dict(zip(outs, models, strict=True)), *files, size, device, _run_of(args))


def _check(**args: Any) -> None:
    outs, models = args.pop("out") or [], args.pop("model_file")
    if shortlist := args.pop("shortlist"):
        listed = read_json(shortlist)["models"]
        outs += [args["receipt"].path.with_name(f"{point}.json") for point in listed]
        models += listed.values()
    if len(outs) != len(models):
        raise UserError(f"check: {len(models)} models, but {len(outs)} files to write")
    from lora.data.labels import Keys
    from lora.steps.check import CheckFiles, check

    settings = _json(args["settings"], "settings")
    files = CheckFiles(
        args["valid_file"], args["e0s_file"], args["holdout_file"], keys=Keys.of(args)
    )
    targets = dict(zip(outs, models, strict=True))
    check(targets, args["names"], files, settings, args["device"], _run_of(args))


def _export(**args: Any) -> None:
    verify_sweep(args["source"])
    from lora.steps.export import ExportSettings, export

    args["engines"] = tuple(args["engines"] or ())
    settings = ExportSettings(**{f.name: args[f.name] for f in fields(ExportSettings)})
    export(args["source"], settings, _run_of(args))


def _base(args: dict[str, Any]) -> Base:
    """Return the foundation model that options name."""
    return Base(args["foundation"], args["head"])


def _run_of(args: dict[str, Any]) -> Run:
    """Return the threads and the receipt that options name."""
    return Run(args.get("threads"), args.get("receipt"))


def _track(results: str, **args: Any) -> None:
    verify_sweep(results)
    from lora.plan.layout import Layout
    from lora.plan.sweep import Sweep
    from lora.steps.track import TrackSettings, track

    track(Sweep.load(Layout(Path(results)).plan), TrackSettings(**args))


def _status(**args: Any) -> None:
    from lora.cli.status import show

    show(**args)


_STEPS = {
    "init": _init,
    "config": _config,
    "foundation": _foundation,
    "split": _split,
    "replay": _replay,
    "audit": _audit,
    "e0s": _e0s,
    "keep": _keep,
    "train": _train,
    "truncate": _truncate,
    "merge": _merge,
    "evaluate": _evaluate,
    "check": _check,
    "track": _track,
    "export": _export,
    "select": select,
    "label": label,
    "status": _status,
}


def _run(step: str, args: dict[str, Any]) -> None:
    """Call the function of a step, which has the name of its module, on what its options say."""
    if "plan" in args:
        _job(step, **args)
    elif step in _STEPS:
        _STEPS[step](**args)
    else:
        room = "cli" if step in ("ui", "verify", "completion") else "steps"
        getattr(importlib.import_module(f"lora.{room}.{step}"), step)(**args)


def _json(text: str, what: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise UserError(f"{what}: {text} is not JSON ({error})") from None
    return values
