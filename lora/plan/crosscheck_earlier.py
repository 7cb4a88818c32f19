"""Checks of what a config names of earlier sweeps: a base, an adapter to go on from."""

from collections.abc import Iterator
from pathlib import Path

from lora.catalogue.methods import BY_NAME, EARLIER
from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.config import Config
from lora.plan.earlier import CARD, adapter_at, made_in
from lora.plan.messages import Key, Problem
from lora.plan.words import shown

MODEL, BASE = ("foundation", "model"), ("foundation", "base")


def earlier_problems(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with what a config names of earlier sweeps.

    Args:
        config: The config.
        folder: The folder in which paths start.
    """
    yield from _base(config, folder)
    for kind in config.grid.adapter:
        yield from _start(config, folder, kind)
    if config.e0s.method == EARLIER and len(found := config.starts_from) != 1:
        text = f"needs one adapter that trainings go on from, and there are {len(found)}"
        end = f"set train.start: {EARLIER} and train.start_from, or give the values"
        yield Problem(("e0s", "method"), f"{EARLIER} {text}; {end}", (("train", "start_from"),))


def _base(config: Config, folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with a base out of a results folder."""
    model, results = config.foundation.model, (folder / config.results).resolve()
    if made_in(folder / model, results):
        text = f"{shown(model)} lies in results, where this sweep writes; name another folder there"
        yield Problem(MODEL, text, (("results",),))
    if config.foundation.base and not adapter_at(folder / model):
        text = "is not used, as foundation.model is no adapter of an earlier sweep; leave it out"
        yield Problem(BASE, text, (MODEL,))


def _start(config: Config, folder: Path, kind: str) -> Iterator[Problem]:
    """Yield what is wrong with the adapter that points of a kind go on from."""
    own = "start_from" in getattr(config.methods, kind).given()
    key: Key = ("methods", kind, "start_from") if own else ("train", "start_from")
    about: tuple[Key, ...] = (("train", "start"), ("grid", "start"), ("methods", kind))
    path, asked = config.settings_of(kind).get("start_from"), EARLIER in config.starts_of(kind)
    if asked and not path and config.settings_of(kind).get("start") != EARLIER:
        yield Problem(key, f"is missing; the start {EARLIER} needs the folder of one", about)
    if path and not asked and (own or len(config.grid.adapter) == 1):
        text = f"is not used; set train.start: {EARLIER}, add it to grid.start, or leave it out"
        yield Problem(key, text, about)
    if not (path and asked):
        return
    there = adapter_at(folder / path)
    if there is None:
        text = f"{shown(path)} is not the folder of an adapter; paths start at {folder.resolve()}"
        yield Problem(key, text, about)
        return
    if made_in(there, (folder / config.results).resolve()):
        text = f"{shown(path)} lies in results, where this sweep writes; name another folder there"
        yield Problem(key, text, (("results",),))
    for text, of in _card(config, there, kind):
        yield Problem(key, f"{shown(path)} {text}", (*about, *of))


def _card(config: Config, adapter: Path, kind: str) -> Iterator[tuple[str, tuple[Key, ...]]]:
    """Yield what keeps points of a kind from going on from an adapter, and keys that it is about.

    What only the models tell, trainings refuse.
    """
    try:
        card = read_json(adapter / CARD)
    except UserError as error:
        yield f"cannot be read: {error}", ()
        return
    if (method := card.get("method")) != kind:
        text = f"holds {method} weights, and the points are of {kind}; name one of it"
        yield text, (("grid", "adapter"),)
        return
    had = bool(card.get("replay"))
    if {*config.grid.replay} != {had}:
        text = f"was trained {'with' if had else 'without'} replay; set grid.replay: "
        yield f"{text}[{str(had).lower()}]", (("grid", "replay"),)
    if len(config.grid.placement) > 1:
        yield (
            "adapts one placement; give the one that it had in grid.placement",
            (("grid", "placement"),),
        )
    fixed = ("rank", "alpha", "scaling") if not BY_NAME[kind].can_be_cut else ()
    for name in fixed:
        given = getattr(config.grid, name)
        if {*(given if isinstance(given, tuple) else (given,))} != {card.get(name)}:
            text = f"has {name} {card.get(name)}, and {kind} adapters go on with that only"
            yield f"{text}; set grid.{name} so", (("grid", name),)
