"""Checks of a config between its keys, and of the files that it names."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lora.catalogue.checks import TIERS
from lora.catalogue.foundations import BY_NAME, NAMES, OURS, why_not
from lora.catalogue.methods import ADAPTERS, OWN, TRAINED
from lora.catalogue.methods import BY_NAME as METHODS
from lora.errors import UserError
from lora.files.stored import shards
from lora.plan.config import Config
from lora.plan.config_data import LABELS
from lora.plan.crosscheck_earlier import earlier_problems
from lora.plan.earlier import adapter_at
from lora.plan.home import QUICKSTART
from lora.plan.messages import Key, Problem, dotted
from lora.plan.peek import class_in
from lora.plan.points import count_points, cut_kinds
from lora.plan.servers import wrong_with
from lora.plan.targets import Targets
from lora.plan.words import did_you_mean, listed, shown

MOST_POINTS = 10_000  # the plan of so many takes ten seconds
METHOD, VALID, TEST = ("split", "method"), ("split", "valid_file"), ("split", "test_file")


def cross_check(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong between the keys of a config whose values are right one by one.

    Args:
        config: The config.
        folder: The folder in which paths start.
    """
    yield from _results(config, folder)
    yield from _foundation(config, folder)
    yield from earlier_problems(config, folder)
    yield from _files(config, folder)
    yield from _labels(config)
    yield from _split(config)
    yield from _e0s(config, folder)
    yield from _replay(config)
    yield from _training(config)
    yield from _unused(config)
    yield from _starts(config)
    yield from _points(config)
    yield from _cuts(config)
    yield from _race(config)
    yield from _checks(config)
    yield from _tracking(config)


def data_files(config: Config) -> dict[Key, str]:
    """Return the labelled files that a config names, by key.

    Args:
        config: The config.
    """
    named: dict[Key, str | None] = {("data", "file"): config.data.file}
    named |= {("data", "test_sets", i, "file"): x.file for i, x in enumerate(config.data.test_sets)}
    named |= {VALID: config.split.valid_file, TEST: config.split.test_file}
    named |= {("checks", "holdout_file"): config.checks.holdout_file}
    named |= {("replay", "file"): config.replay.file}
    return {key: path for key, path in named.items() if path}


def is_file(path: Path) -> bool:
    """Return True if a path is a file that can be asked for.

    Args:
        path: The path.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _is_data(path: Path) -> bool:
    """Return True for a file, and for a folder of files of MACE's own formats."""
    return is_file(path) or bool(shards(path))


def _results(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what keeps the results folder from being made."""
    path = folder / config.results
    for place in (path, *path.parents):
        if is_file(place):
            where = config.results if place == path else place
            yield Problem(("results",), f"{where} is a file; name a folder")


def _foundation(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with the foundation model, as far as its name and class tell."""
    model, key = config.foundation.model, ("foundation", "model")
    if not adapter_at(folder / model):
        yield from _model(model, key, folder)
    elif config.foundation.base:
        yield from _model(config.foundation.base, ("foundation", "base"), folder)


def _model(model: str, key: Key, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with the file or the name of a model."""
    if is_file(folder / model) or model in NAMES:
        cls = class_in(folder / model) if is_file(folder / model) else BY_NAME[model].cls
        if cls and (why := why_not(cls)):
            yield Problem(key, f"{shown(model)} {why}")
        return
    if "/" in model or os.sep in model or Path(model).suffix in (".model", ".pt", ".pth"):
        yield Problem(key, f"{shown(model)} is not a file; paths start at {folder.resolve()}")
        return
    meant = did_you_mean(model, NAMES)
    more = meant or f"; names: {', '.join(NAMES)}"
    yield Problem(key, f"{shown(model)} is neither a file nor a name that MACE knows{more}")


def _files(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield the labelled files that do not exist or were left over from the quickstart."""
    file = config.data.file
    own = _is_data(folder / file) and QUICKSTART not in file
    for key, path in data_files(config).items():
        if not _is_data(folder / path):
            yield Problem(key, f"{shown(path)} is not a file; paths start at {folder.resolve()}")
        elif own and QUICKSTART in path:
            yield Problem(
                key,
                f"{path} belongs to the quickstart, and data.file does not; name a file of your "
                "own, or leave the key out",
                (("data", "file"),),
            )
    if own and config.export.data_licence == OURS.licence:
        yield Problem(
            ("export", "data_licence"),
            "is that of the quickstart's data, and data.file is not; name that of your own, or "
            "leave the key out",
            (("data", "file"),),
        )
    names: list[str] = []
    for i, test_set in enumerate(config.data.test_sets):
        if test_set.name in names:
            text = f"{shown(test_set.name)} is the name of two test sets; rename one"
            yield Problem(("data", "test_sets", i, "name"), text)
        names.append(test_set.name)


def _labels(config: Config) -> Iterator[Problem]:
    """Yield the names that two labels have."""
    taken: dict[str, Key] = {}
    for name in LABELS:
        key: Key = ("data", name)
        value = getattr(config.data, name)
        if value in taken:
            text = f"{shown(value)} is the name of {dotted(taken[value])}, too; name each label"
            yield Problem(key, text, (taken[value],))
        taken.setdefault(value, key)


def _split(config: Config) -> Iterator[Problem]:
    """Yield what a method of splitting needs or does not use."""
    split = config.split
    total = split.valid_fraction + split.test_fraction
    fractions = ("split", "valid_fraction"), ("split", "test_fraction")
    if total >= 1 and split.method != "given":
        yield Problem(
            fractions[0],
            f"valid_fraction + test_fraction is {total:g}, which leaves nothing to train on; "
            "lower one of them",
            (*fractions, METHOD),
        )
    if split.method == "group" and not split.group_key:
        text = "is missing; the method group needs the key that names the group of a structure"
        yield Problem(("split", "group_key"), text, (METHOD,))
    if split.method == "given" and not split.valid_file:
        text = "is missing; the method given needs a validation set of your own"
        yield Problem(VALID, text, (METHOD,))
    if split.method != "given":
        for key, path in ((VALID, split.valid_file), (TEST, split.test_file)):
            if path:
                text = f"is not used by the method {split.method}; set split.method: given"
                yield Problem(key, f"{text}, or remove it", (METHOD,))


def _e0s(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with the file of free atoms."""
    key, path = ("e0s", "isolated_file"), config.e0s.isolated_file
    if path and not is_file(folder / path):
        yield Problem(key, f"{shown(path)} is not a file; paths start at {folder.resolve()}")
    if path and config.e0s.method not in ("auto", "isolated"):
        used = config.e0s.method if isinstance(config.e0s.method, str) else "of explicit values"
        text = f"is not used by the method {used}; set e0s.method: auto or isolated"
        yield Problem(key, f"{text}, or remove it", (("e0s", "method"),))


def _replay(config: Config) -> Iterator[Problem]:
    """Yield that replay lacks its structures."""
    grid, baselines = ("grid", "replay"), ("baselines",)
    asked = "grid.replay" if True in config.grid.replay else ""
    asked = asked or ("baselines" if "full_replay" in config.baselines else "")
    if asked and not config.replay.file:
        yield Problem(
            ("replay", "file"),
            f"is missing, and {asked} asks for replay; name structures of the foundation model's "
            "own kind (labels are not needed), or do without replay",
            (grid, baselines),
        )


def _training(config: Config) -> Iterator[Problem]:
    """Yield settings of trainings that contradict each other."""
    grid: Key = ("grid", "lr")
    for kind in config.grid.adapter if config.grid.lr else ():
        if isinstance(config.methods.given().get(kind, {}).get("lr"), tuple):
            text = f"is swept in methods.{kind}.lr, too; leave out one of them"
            yield Problem(grid, text, (grid,))
    used = [*config.grid.adapter, *(x for x in config.baselines if x != "foundation")]
    for name in used:
        method = {"full_replay": "full"}.get(name, name)
        try:
            config.train_settings(name, method=method, replay=name == "full_replay")
        except UserError as error:
            own: dict[str, Any] = getattr(config.methods, name).given()
            key: Key = ("methods", name) if own else ("train",)
            yield Problem(key, str(error), (("train",), ("methods", name)))
            if not own:
                return  # the others say the same


def _unused(config: Config) -> Iterator[Problem]:
    """Yield the settings that act on none of the methods that they stand for."""
    used = {*config.grid.adapter, *(x for x in config.baselines if x != "foundation")}
    places: list[tuple[Key, Mapping[str, Any], Iterable[str]]] = [
        (("methods", name), getattr(config.methods, name).given(), (name,)) for name in TRAINED
    ]
    for where, given, methods in [*places, (("train",), config.train.given(), sorted(used))]:
        for name in OWN:
            of = [row.name for row in METHODS.values() if name in row.own]
            if name in given and not {*of} & {*methods}:
                text = f"is not used by {listed(methods)}, but by {listed(of, 'and')} alone"
                yield Problem((*where, name), f"{text}; leave it out", (where,))
    if any(config.grid.keep) and not config.keep.weight and not config.keep.penalty:
        text = "is 0 like keep.penalty, so that points with keep would train as those without; "
        yield Problem(("keep", "weight"), f"{text}raise one", (("grid", "keep"), ("keep",)))


def _starts(config: Config) -> Iterator[Problem]:
    """Yield the kinds of adapters that have no start."""
    for kind in config.grid.adapter:
        if not config.starts_of(kind):
            own = config.settings_of(kind).get("start", "")
            asked = listed(config.grid.start or (own,), "and")
            key: Key = ("grid", "start") if config.grid.start else ("methods", kind, "start")
            text = f"{kind} adapters cannot start with {asked}; use "
            about = (("grid", "adapter"), ("train", "start"))
            yield Problem(key, f"{text}{listed(METHODS[kind].starts)}", about)


def _points(config: Config) -> Iterator[Problem]:
    """Yield placements that are the same, and that there are more points than a plan can have."""
    for kind in config.grid.adapter if len(config.grid.placement) > 1 else ():
        given = Targets.from_dict(config.settings_of(kind).get("targets", {}))
        same = [x for x in config.grid.placement if given.placed(x) == given]
        if len(same) > 1:
            text = f"targets of {kind} adapts the same layers with {' and '.join(same)}; "
            key: Key = ("grid", "placement")
            yield Problem(key, f"{text}remove one", (key, ("train",), ("methods", kind)))
    if (n := count_points(config)) > MOST_POINTS:
        text = f"makes {n} points with the baselines; a sweep has at most {MOST_POINTS}"
        yield Problem(("grid",), text, (("grid",), ("methods",), ("baselines",)))


def _cuts(config: Config) -> Iterator[Problem]:
    """Yield a rank curve of which no adapter can be cut."""
    if config.rank_curve and not cut_kinds(config):
        text = f"{listed(config.grid.adapter, 'and')} adapters cannot be cut; leave it out, or add "
        can = listed([x for x in ADAPTERS if METHODS[x].can_be_cut])
        yield Problem(("rank_curve",), f"{text}{can} to grid.adapter", (("grid", "adapter"),))


def _race(config: Config) -> Iterator[Problem]:
    """Yield what wants every point of the grid, which a race does not train."""
    if config.rules is None:
        return
    key: Key = ("race",)
    shares: Key = ("grid", "train_fraction")
    if len(config.grid.train_fraction) > 1:
        text = "stops settings early, and a curve over several train_fraction wants all of them"
        yield Problem(key, f"{text}; turn it off, or give one train_fraction", (shares,))
    if config.rank_curve:
        text = "stops settings early, and rank_curve wants all of the highest rank"
        yield Problem(key, f"{text}; turn one of them off", (("rank_curve",),))
    if config.polish and not cut_kinds(config):
        kinds = listed(config.grid.adapter, "and")
        text = f"ranks: cut needs adapters that can be cut, not {kinds}; take ranks: train"
        yield Problem(key, text, (("grid", "adapter"),))
    if config.polish and len(set(config.grid.rank)) < 2:
        text = "ranks: cut needs a lower rank to cut to, and grid.rank has one; add one, or take"
        yield Problem(key, f"{text} ranks: train", (("grid", "rank"),))
    for kind in cut_kinds(config) if config.polish else ():
        if config.train_settings(kind).targets.modules_to_save:
            text = "ranks: cut cannot cut the whole modules of targets.modules_to_save"
            yield Problem(key, f"{text}; take ranks: train", (("train",), ("methods", kind)))


def _checks(config: Config) -> Iterator[Problem]:
    """Yield the checks that stand in two tiers."""
    seen: dict[str, str] = {}
    for tier in TIERS:
        for i, name in enumerate(getattr(config.checks, tier)):
            if name in seen:
                text = f"{name} stands in checks.{seen[name]}, too; leave it in one of them"
                yield Problem(("checks", tier, i), text, (("checks", seen[name]), ("checks", tier)))
            seen.setdefault(name, tier)


def _tracking(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the store."""
    uri, key = config.tracking.uri or "", ("tracking", "uri")
    if why := wrong_with(uri):
        yield Problem(key, why)
    if config.tracking.live and not uri.startswith(("http://", "https://")):
        yield Problem(
            ("tracking", "live"),
            "needs a server, tracking.uri: http(s)://...; trainings on several machines must not "
            "write to one SQLite file",
            (key,),
        )
