"""Checks of what a config names of earlier sweeps: a base, an adapter to go on from."""

from collections.abc import Iterator
from pathlib import Path

from lora.catalogue.methods import EARLIER
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
    try:
        method = read_json(there / CARD).get("method")
    except UserError as error:
        yield Problem(key, str(error), about)
        return
    if method != kind:
        text = f"{shown(path)} holds {method} weights, and the points are of {kind}; name one of it"
        yield Problem(key, text, (*about, ("grid", "adapter")))
