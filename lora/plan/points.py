"""Make the points of a sweep, with their names; no other place makes a name or reads one.

A name says what the point is, with numbers in one canonical form, so that a value that is added
to a list of the grid renames, and retrains, nothing.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lora.catalogue.methods import ADAPTERS, BY_NAME, PLACEMENT
from lora.plan.config import Config
from lora.plan.settings import TrainSettings

MARKS = {"lr": "lr", "ema_decay": "ema", "clip_grad": "clip"}  # of swept settings, in names


class Protocol(NamedTuple):
    """What a training is reminded of the foundation model with, beside the new data.

    replay: whether old structures are replayed, with a head of their own
    keep:   whether it trains on structures that are made around its training set, too
    """

    replay: bool = False
    keep: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of what it is reminded with."""
        return tuple(x for x in self._fields if getattr(self, x))

    @property
    def mark(self) -> str:
        """Return what it adds to names; a training on the new data alone adds nothing."""
        return "".join(f"_{x}" for x in self.names)


PLAIN = Protocol()
PROTOCOLS = tuple(Protocol(replay, keep) for keep in (False, True) for replay in (False, True))


class Peers(NamedTuple):
    """What points with adapters share that train together: they see the same batches."""

    protocol: Protocol
    share: float
    seed: int
    kind: str
    placement: str


@dataclass(frozen=True)
class Point:
    """One fine-tuning of the grid, a baseline, or a cut.

    name:      of its files and runs, lora_r4_a8_s3
    group:     what it shares with the points that differ by seed, lora_r4_a8
    kind:      in one word for tables: lora or another kind of adapter, the same with _replay,
               _keep or both, cut, full, full_replay, freeze, foundation
    settings:  of its training; of a cut those of the training that was cut, with the lower rank;
               None for the foundation model, which is not trained
    cut_from:  the name of the training that it was cut from
    polished:  whether a cut is trained after that, for the epochs of its settings
    """

    name: str
    group: str
    kind: str
    settings: TrainSettings | None = None
    cut_from: str = ""
    polished: bool = False

    def values(self) -> dict[str, Any] | None:
        """Return the settings as JSON; None for the foundation model."""
        return self.settings.to_dict() if self.settings else None

    @property
    def is_lora(self) -> bool:
        """Return True for a training of adapters."""
        return self.settings is not None and self.settings.method in ADAPTERS and not self.cut_from

    @property
    def trains(self) -> bool:
        """Return True for a training, False for the foundation model and for what is only cut."""
        return self.settings is not None and (self.polished or not self.cut_from)

    @property
    def source(self) -> str:
        """Return the training that made a point: its own, or the one that it was only cut from."""
        return self.cut_from if self.cut_from and not self.polished else self.name

    @property
    def origin(self) -> str:
        """Return what a cut is cut from, in words; "" for all else."""
        if not self.cut_from or self.settings is None:
            return ""
        return said_cut(self.cut_from, self.settings.max_num_epochs if self.polished else 0)

    @property
    def alone(self) -> bool:
        """Return True for a training of adapters with weights of its own beside them."""
        return self.settings is not None and bool(self.settings.targets.modules_to_save)

    @property
    def peers(self) -> Peers:
        """Return what points that train together share."""
        assert self.settings is not None
        one = self.settings
        return Peers(self.protocol, one.train_fraction, one.seed, one.method, one.placement)

    @property
    def plain(self) -> str:
        """Return the group's name as it would be on the new data alone."""
        return self.group.replace(self.protocol.mark, "", 1)

    @property
    def family(self) -> str:
        """Return the group's name as it would be with all data: a line of a learning curve."""
        share = self.settings.train_fraction if self.settings else 1
        return self.group.replace(mark(PLAIN, share), "", 1) if share != 1 else self.group

    @property
    def protocol(self) -> Protocol:
        """Return what its training is reminded of the foundation model with."""
        return Protocol(self.settings.replay, self.settings.keep) if self.settings else PLAIN


def kind_of(adapter: str, protocol: Protocol) -> str:
    """Return the kind of points with adapters.

    Args:
        adapter: The kind of their adapters.
        protocol: What they are reminded of the foundation model with.
    """
    return f"{adapter}{protocol.mark}"


def said_cut(source: str, epochs: int = 0) -> str:
    """Return in words what a cut is.

    Args:
        source: the point, or the group, that it is cut from
        epochs: for which it was polished
    """
    polish = f", polished for {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
    return f"cut from {source}{polish}"


FOUNDATION = Point("foundation", "foundation", "foundation")


def make_points(config: Config) -> dict[str, Point]:
    """Return every point of a config by its name: adapters, baselines, foundation model, cuts."""
    points = [*_adapted(config), *_baselines(config)]
    if "foundation" in config.baselines:
        points.append(FOUNDATION)
    return {point.name: point for point in [*points, *_cuts(config, points)]}


def count_points(config: Config) -> int:
    """Return how many trainings a config asks for, without making them.

    Args:
        config: The config.
    """
    grid = config.grid
    each = math.prod(map(len, (grid.replay, grid.keep, grid.rank, grid.alpha, grid.placement)))
    methods = {x: each * len(config.starts_of(x)) for x in grid.adapter}
    methods |= {x: 1 for x in config.baselines if BY_NAME[x].method}
    swept = {x: math.prod(map(len, config.swept(x).values())) for x in methods}
    total = sum(n * swept[x] for x, n in methods.items())
    return total * len(grid.train_fraction) * len(grid.seed)


def cut_kinds(config: Config) -> list[str]:
    """Return the kinds of adapters of a grid from which lower ranks can be cut.

    Args:
        config: The config.
    """
    return [x for x in config.grid.adapter if BY_NAME[x].can_be_cut]


def placed(config: Config, placement: str) -> str:
    """Return what the layers with adapters add to names: what the grid asks for, not `targets`.

    Args:
        config: The config.
        placement: Which layers have adapters.
    """
    return f"_{placement}" if placement in {*config.grid.placement} - {PLACEMENT} else ""


def _adapted(config: Config) -> Iterator[Point]:
    """Yield the points with adapters, but for those that are cut."""
    grid = config.grid
    protocols = [Protocol(*x) for x in itertools.product(grid.replay, grid.keep)]
    for kind, protocol, share in itertools.product(grid.adapter, protocols, grid.train_fraction):
        ranks = (max(grid.rank),) if config.polish and kind in cut_kinds(config) else grid.rank
        starts, swept = config.starts_of(kind), _swept(config, kind)
        for rank, alpha, values, start, placement, seed in itertools.product(
            ranks, grid.alpha, swept, starts, grid.placement, grid.seed
        ):
            own: dict[str, Any] = {"method": kind, "rank": rank, "alpha": alpha, "seed": seed}
            own |= {"scaling": grid.scaling, "start": start, **values}
            settings = _settings(config, kind, own | _varied(config, protocol, share))
            settings = replace(settings, targets=settings.targets.placed(placement))
            marks = starts[start] + placed(config, placement) + mark(protocol, share)
            group = f"{kind}_r{rank}_a{_number(alpha)}{_values(values)}{marks}"
            yield Point(f"{group}_s{seed}", group, kind_of(kind, protocol), settings)


def _baselines(config: Config) -> list[Point]:
    points = []
    for name, share in itertools.product(config.baselines, config.grid.train_fraction):
        method = BY_NAME[name]
        if method.method is None:
            continue
        for swept, seed in itertools.product(_swept(config, name), config.grid.seed):
            own = {"method": method.method, "seed": seed, **swept}
            group = f"{name}{_values(swept)}{mark(PLAIN, share)}"
            varied = _varied(config, Protocol(method.replays), share)
            settings = _settings(config, name, own | varied)
            points.append(Point(f"{group}_s{seed}", group, name, settings))
    return points


def _swept(config: Config, name: str) -> list[dict[str, float]]:
    """Return every combination of the settings of a method that are swept."""
    swept = config.swept(name)
    return [dict(zip(swept, x, strict=True)) for x in itertools.product(*swept.values())]


def _values(swept: dict[str, float]) -> str:
    """Return what swept settings add to a name."""
    return "".join(f"_{MARKS[name]}{_number(value)}" for name, value in swept.items())


def _cuts(config: Config, points: list[Point]) -> list[Point]:
    """Return the trainings of the highest rank, cut to each lower one, polished or not."""
    if not (config.rank_curve or config.polish):
        return []
    top, polish, kinds = max(config.grid.rank), config.polish, cut_kinds(config)
    return [
        Point(
            f"{point.name}_cut{rank}",
            f"{point.group}_cut{rank}",
            "cut",
            replace(
                point.settings, rank=rank, **(polish.settings(point.settings) if polish else {})
            ),
            point.name,
            polished=polish is not None,
        )
        for point in points
        if point.settings and point.settings.method in kinds and point.settings.rank == top
        for rank in config.grid.rank
        if rank < top
    ]


def _settings(config: Config, method: str, own: dict[str, Any]) -> TrainSettings:
    """Return the settings of all trainings under those of a method under those of a point."""
    return config.train_settings(method, **own)


def mark(protocol: Protocol, share: float) -> str:
    """Return what a protocol and a share of the training set add to a name; the plain ones nothing.

    Args:
        protocol: The protocol.
        share: The share.
    """
    return protocol.mark + ("" if share == 1 else f"_f{_number(share)}")


def _varied(config: Config, protocol: Protocol, share: float) -> dict[str, Any]:
    varied: dict[str, Any] = {} if share == 1 else {"train_fraction": share}
    if protocol.replay:
        varied |= {"replay": True, "replay_weight": config.replay.weight}
    if protocol.keep:
        given = {"keep_weight": config.keep.weight, "keep_penalty": config.keep.penalty}
        varied |= {"keep": True, **given}
    return varied


def _number(value: float) -> str:
    """Return a number in one form: 8.0 as 8, and all digits of 0.1."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
