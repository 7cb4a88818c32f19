"""Translate options of `mace_run_train` to the config of a sweep, with what has no counterpart."""

import re
from pathlib import Path
from typing import Any

from lora.catalogue.mace_options import BY_NAME, ROWS, MaceOption
from lora.errors import UserError
from lora.plan.draft import ALPHAS, RANKS, Draft
from lora.plan.from_mace import OTHER_DEFAULT, NotHereError, converted, default_of, leaf, relation
from lora.plan.mace_command import Given, read_command
from lora.plan.options import METHOD_DEFAULTS
from lora.plan.words import shown

REPLAYED_BY_DEFAULT = ("small", "medium", "large")
OWN: tuple[str, ...] = (
    "name",
    "work_dir",
    "test_file",
    "valid_file",
    "lora",
    "lora_rank",
    "lora_alpha",
)
OWN += ("multiheads_finetuning", "pt_train_file", "pseudolabel_replay")
SETS = ("train", "valid", "test")  # names that no further test set can have
SET_BY_REPLAY = {"lr": 0.0001, "ema_decay": 0.99999}  # by mace_run_train itself


def translation(command: str, over: dict[str, str]) -> Draft:
    """Return a config for a command.

    Args:
        command: A command of mace_run_train, or the name of its YAML file.
        over: Options that win over those of the command.

    Raises:
        UserError: An option is not known, or no file or no foundation model is named.
    """
    given = read_command(command) | over
    for name, own in (("foundation_model", "--foundation NAME"), ("train_file", "a file")):
        if not given.get(name):
            why = "a sweep fine-tunes" if name == "foundation_model" else "a sweep has one file"
            raise UserError(f"--{name} is missing: {why}; give {own} to mace-lora init, too")
    draft = Draft(
        f"From {' '.join(command.split())}",
        "What is not written here has the default of config/README.md; docs/from_mace.md has every "
        "option.",
    )
    method = _method(given)
    if given.get("loss") == "ef":
        given |= {"loss": "weighted", "energy_weight": 1, "forces_weight": 1}
    draft.set("results", str(Path(given.get("work_dir", ".")) / given.get("name", "results")))
    _files(draft, given)
    _points(draft, given, method)
    if _replays(given):
        given = _replay(draft, given, method)
    elif idle := [x for x in ("multiheads_finetuning", "pseudolabel_replay") if given.get(x)]:
        asked = ", ".join(f"--{x}=True" for x in idle)
        draft.say("replay", f"{asked}: mace_run_train replays nothing without --pt_train_file.")
    if "E0s" not in given:
        why = "The command has no E0s: mace_run_train takes those of free atoms in train_file."
        draft.set("e0s.method", "isolated", why)
    for row in ROWS:
        if row.name in given and row.name not in OWN:
            _option(draft, row, given[row.name], method)
    why = "mace_run_train leaves the last batch of an epoch out where it is not full."
    draft.set("train.drop_last", True, why)
    _defaults(draft, given, method)
    return draft


def _replays(given: Given) -> bool:
    """Return True where mace_run_train would replay."""
    wanted = given.get("multiheads_finetuning", True)
    default = given["foundation_model"] in REPLAYED_BY_DEFAULT
    return bool(wanted and (default or given.get("pt_train_file")))


def _method(given: Given) -> str:
    """Return the method that the command trains by."""
    if given.get("lora"):
        return "lora"
    if given.get("freeze", 0) > 0:
        return "freeze"
    return "full_replay" if _replays(given) else "full"


def _place(row: MaceOption, method: str) -> str:
    """Return the key of an option; rates, decay and clipping are those of the method."""
    if leaf(row) in METHOD_DEFAULTS[method]:
        return f"methods.{method}.{leaf(row)}"
    return row.key or (row.place if row.place != "top" else "results")


def _option(draft: Draft, row: MaceOption, value: Any, method: str) -> None:
    """Write an option, or say what to do instead."""
    place, said = _place(row, method), f"--{row.name}={value}"
    said = f"--{row.name}" if row.kind == "flag" else said
    if not row.key:
        draft.say(place, f"{said}: {row.note}")
        return
    try:
        draft.set(place, converted(row, value), *([row.note] if row.told else []))
    except NotHereError as problem:
        draft.doubt(place.rpartition(".")[0], f"--{row.name}: {problem}. {row.note}".strip())


def _files(draft: Draft, given: Given) -> None:
    """Write the sets that have files of their own."""
    valid, test = (_one_file(draft, given, x) for x in ("valid_file", "test_file"))
    if valid:
        draft.set("split.method", "given")
        draft.set("split.valid_file", valid)
        if test:
            draft.set("split.test_file", test)
    elif test:
        name = re.sub(r"[^A-Za-z0-9_.-]|^[.-]", "_", Path(test).stem)
        name += "_file" if name in SETS else ""
        draft.set("data.test_sets", [{"name": name, "file": test}])
        draft.set("split.test_fraction", 0, "The command has a test set of its own.")
    else:
        draft.say("split.test_fraction", "0.1. mace_run_train leaves no test set.")


def _one_file(draft: Draft, given: Given, name: str) -> str | None:
    """Return a file of a set; None, with a word about it, where it is none that is read here."""
    row = BY_NAME[name]
    try:
        return str(converted(row, given[name])) if given.get(name) else None
    except NotHereError as problem:
        draft.doubt("data", f"--{name}: {problem}.")
        return None


def _points(draft: Draft, given: Given, method: str) -> None:
    """Write the points, and which of them the command trains."""
    if method == "lora":
        rank, alpha = given.get("lora_rank", 4), given.get("lora_alpha", 1)
        draft.set("grid.rank", [rank], f"More values are more points: {RANKS}.")
        draft.set("grid.alpha", [alpha], f"More values are more points: {ALPHAS}.")
        return
    draft.say("grid", f"The command trains the baseline {method}; these are LoRA points beside it.")
    draft.set("grid.rank", [given["lora_rank"]] if "lora_rank" in given else RANKS)
    draft.set("grid.alpha", [given["lora_alpha"]] if "lora_alpha" in given else ALPHAS)
    if method != "full_replay":
        draft.set("baselines", ["foundation", method])


def _replay(draft: Draft, given: Given, method: str) -> Given:
    """Write what is replayed.  Return the options without those that mace_run_train overrides."""
    file = given.get("pt_train_file", "mp")
    try:
        draft.set("replay.file", converted(BY_NAME["pt_train_file"], file))
        labels = "foundation" if given.get("pseudolabel_replay") else "file"
        draft.set("replay.labels", labels)
        if method == "full_replay":
            draft.set("baselines", ["foundation", "full", "full_replay"])
        else:
            draft.set("grid.replay", [True])
    except NotHereError as problem:
        asked = (
            "baselines: [..., full_replay]" if method == "full_replay" else "grid.replay: [true]"
        )
        draft.doubt("replay", f"The command replays: {problem} as replay.file, with {asked}.")
    draft.say(
        "train",
        "When it replays, mace_run_train sets the loss universal; write loss: universal if the "
        "structures have a stress.",
    )
    if given.get("force_mh_ft_lr"):
        return given
    lost = [f"--{x}={given[x]}" for x in SET_BY_REPLAY if x in given]
    if lost:
        said = ", ".join(f"{x} {value:g}" for x, value in SET_BY_REPLAY.items())
        draft.say("train", f"{', '.join(lost)}: mace_run_train sets {said} when it replays.")
    return given | SET_BY_REPLAY


def _defaults(draft: Draft, given: Given, method: str) -> None:
    """Say which defaults of mace_run_train, where the command is silent, are others here."""
    parts = []
    for row in ROWS:
        if row.name in given or relation(row) != OTHER_DEFAULT or row.place.startswith("grid."):
            continue
        ours = METHOD_DEFAULTS[method].get(leaf(row), default_of(row))
        if ours != row.default:
            parts.append(f"{row.name} {shown(row.default)} (here {shown(ours)})")
    if parts:
        said = "Where the command is silent, mace_run_train has other defaults: "
        draft.say("train", f"{said}{', '.join(parts)}.")
