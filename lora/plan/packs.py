"""Decide which points share a process.

Points with adapters of one kind on the same layers, of one seed and share of the data, see the same
batches, so they train as one; the cuts of a seed are merged and evaluated as one; every other point
is a pack of its own.  Who shares
with whom is written down when a sweep starts: a grid that grows must leave trained packs as they
are, and jobs on a cluster must find the same packs.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.catalogue.methods import PLACEMENT
from lora.plan.config import FEW, Config
from lora.plan.layout import Layout
from lora.plan.points import FOUNDATION, Peers, Point, Protocol, mark, placed
from lora.plan.settings import DEFAULTS, TrainSettings

MOST = 4  # points that share a CPU process: more find no room in its caches
MOST_ON_GPU = 8


@dataclass(frozen=True)
class Leg:
    """What a pack trains of its points in a race: from one rung to the next.

    heat:    the method whose settings race
    number:  of the leg, from 1
    after:   the epoch of the rung before it, 0 for the first leg
    until:   the epoch of the rung after it; None for the last leg, which goes to the end
    seed:    of its points
    places:  how many points it has at most
    replays: whether they replay old structures
    polishes: whether its points are cut from those that come to the end, and trained a little more
    placement: the layers of its points that have adapters
    keeps: whether they train on structures made around the training set, too
    """

    heat: str
    number: int
    after: int
    until: int | None
    seed: int
    places: int
    replays: bool
    polishes: bool = False
    placement: str = PLACEMENT
    keeps: bool = False

    @property
    def protocol(self) -> Protocol:
        """Return what its points are reminded of the foundation model with."""
        return Protocol(self.replays, self.keeps)


@dataclass(frozen=True)
class Pack:
    """Points that one process trains.

    points: where a race has not yet decided who goes on, none
    trains: False for the foundation model and for cuts, which are not trained
    leg:    its part of a race, None outside of races
    bundle: the packs with which its points are merged, evaluated and checked; "" where they go on
    """

    name: str
    points: tuple[Point, ...]
    trains: bool = True
    leg: Leg | None = None
    bundle: str = ""

    @property
    def ends(self) -> bool:
        """Return True where its points have a model that is merged: not at a rung of a race."""
        return self.leg is None or self.leg.until is None

    @property
    def protocol(self) -> Protocol:
        """Return what its points are reminded of the foundation model with."""
        return self.leg.protocol if self.leg else self.points[0].protocol

    @property
    def places(self) -> int:
        """Return how many points it has at most."""
        return self.leg.places if self.leg else len(self.points)


def make_packs(
    config: Config, points: dict[str, Point], known: dict[str, Any], cores: int
) -> dict[str, Pack]:
    """Return the packs of all points.

    Args:
        config: the config
        points: every point by name
        known: {pack: {point: settings}} of an earlier start; what is trained or begun stays
        cores: trainings at a time, for a pack's size where the config leaves it open
    """
    lora = [x for x in points.values() if x.is_lora]
    single = [x for x in points.values() if not x.is_lora and not x.cut_from]
    packs = {x.name: Pack(x.name, (x,), x is not FOUNDATION) for x in single}
    cuts = [x for x in points.values() if x.cut_from]
    for seed in dict.fromkeys(x.settings.seed for x in cuts if x.settings):
        members = tuple(x for x in cuts if x.settings and x.settings.seed == seed)
        packs[f"cut_s{seed}"] = Pack(f"cut_s{seed}", members, trains=False)
    layout = Layout(Path(config.results))
    kept = _kept(known, points, layout)
    settled = {x.name for pack in kept.values() for x in pack.points}
    for peers in dict.fromkeys(x.peers for x in lora):
        stem = _stem(config, peers)
        packs |= {name: pack for name, pack in kept.items() if pack.points[0].peers == peers}
        new = [x for x in lora if x.peers == peers and x.name not in settled]
        numbers = (n for n in itertools.count(1) if f"{stem}{n}" not in kept)
        size = 1 if any(x.alone for x in new) else size_of(config, len(new), cores)
        for i in range(0, len(new), size):
            name = f"{stem}{next(numbers)}"
            packs[name] = Pack(name, tuple(new[i : i + size]))
    return packs


def _stem(config: Config, peers: Peers) -> str:
    marks = placed(config, peers.placement) + mark(peers.protocol, peers.share)
    return f"{peers.kind}{marks}_s{peers.seed}_"


def _kept(known: dict[str, Any], points: dict[str, Point], layout: Layout) -> dict[str, Pack]:
    """Return the packs of an earlier start that stand: trained, or in training as they are."""
    kept = {}
    for name, members in known.items():
        current = {x: points[x] for x in members if x in points and points[x].is_lora}
        trained = layout.receipt("train", name).is_file()
        begun = (layout.work(name) / "checkpoint.pt").is_file() and len(current) == len(members)
        if not current or not (trained or begun):
            continue
        same = all(
            members[x] == point.settings.to_dict() for x, point in current.items() if point.settings
        )
        if not same and len(members) > 1 and any(x.alone for x in current.values()):
            continue
        left = {x: gone(x, s) for x, s in members.items() if x not in points}
        if same:  # a trained pack may hold points that left the grid
            ordered = tuple((current | left)[x] for x in members if x in current or x in left)
        else:  # it trains again: only what is wanted
            ordered = tuple(current.values())
        kept[name] = Pack(name, ordered)
    return kept


def gone(name: str, settings: dict[str, Any]) -> Point:
    """Return a point that is no longer in the grid, as a trained pack holds it.

    Args:
        name: its name
        settings: of its training
    """
    known = TrainSettings.from_dict(settings)
    return Point(name, name, known.method, known)


def on_gpu(config: Config) -> bool:
    """Return True where trainings use a GPU."""
    kind = config.grid.adapter[0]
    return str(config.settings_of(kind).get("device", DEFAULTS["device"])).startswith("cuda")


def size_of(config: Config, n: int, cores: int) -> int:
    """Return how many of n LoRA points share a process; how many a step, the training decides.

    Args:
        config: the config
        n: the points that could share
        cores: how many trainings can run at a time
    """
    if config.pack.size != "auto":
        return int(config.pack.size)
    if on_gpu(config):
        return MOST_ON_GPU
    return max(1, min(MOST, -(-n // (cores or 1))))


def keeps_all(config: Config, packs: Iterable[Pack]) -> bool:
    """Return True where the merged models of all points are kept, not of finalists alone.

    Args:
        config: the config
        packs: all packs of the sweep
    """
    n = sum(x.places for x in packs if x.ends)
    return config.keep_models == "all" or (config.keep_models == "auto" and n <= FEW)
