"""Lay out a race: which settings compete, in which legs, and which processes each leg has.

    leg 1     every setting of a method, with its first seed, from the start to the first rung
    rung 1    compares them; train/rungs/1.json says who goes on, and in which packs
    leg 2     those, to the second rung
    ...
    the end   the finalists, with all seeds, to the last epoch
    the cuts  of the finalists to lower ranks, polished (`race: {ranks: cut}`)

How many go on is known before who does, so that the packs of all legs are in the plan, and in
snakemake's graph, from the first; the file of a rung fills those of the next leg.  Each method has
a race of its own, a heat, so that the best of each is trained to the end.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lora.catalogue.methods import ADAPTERS, PLACEMENT
from lora.files.sealed import read_json
from lora.plan.config import Config
from lora.plan.config_race import Rules
from lora.plan.layout import Layout
from lora.plan.packs import Leg, Pack, size_of
from lora.plan.points import Point, placed


@dataclass(frozen=True)
class Heat:
    """The settings of one method, which race against each other.

    name:    the kind of the points
    groups:  {group: {seed: point}}, in the order of the grid
    rules:   how they race
    longest: the epochs of a whole training
    cuts:    {group: what is cut from it and polished, {group: {seed: point}}}
    """

    name: str
    groups: dict[str, dict[int, Point]]
    rules: Rules
    longest: int
    cuts: dict[str, dict[str, dict[int, Point]]] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Return all seeds, the first one of which begins."""
        return list(next(iter(self.groups.values())))

    def of_placement(self, placement: str) -> dict[str, dict[int, Point]]:
        """Return the groups with adapters on the same layers, which alone can share packs."""
        return {x: seeds for x, seeds in self.groups.items() if _placement(seeds) == placement}

    @property
    def placements(self) -> list[str]:
        """Return the placements of the groups, each once."""
        return list(dict.fromkeys(map(_placement, self.groups.values())))

    @property
    def legs(self) -> int:
        """Return how many legs there are: one more than rungs."""
        return len(self.rules.rungs) + 1

    def epoch(self, leg: int) -> int:
        """Return the epoch at which a leg ends; 0 for the leg before the first."""
        return [0, *self.rules.epochs(self.longest), self.longest][leg]

    def seeds_of(self, leg: int) -> list[int]:
        """Return the seeds that train in a leg."""
        return self.seeds if self.rules.has_all_seeds(leg) else self.seeds[:1]

    def sizes(self, most: bool = False) -> list[int]:
        """Return how many settings each leg has, with those within the noise at most or without."""
        sizes, rule = [len(self.groups)], self.rules.most if most else self.rules.room
        for rung in range(len(self.rules.rungs)):
            sizes.append(rule(sizes[-1], rung, self.ranks))
        return sizes

    @property
    def ranks(self) -> int:
        """Return how many ranks a setting has at the end: its own, and those that are cut."""
        return 1 + len(next(iter(self.cuts.values()), {}))

    @property
    def sources(self) -> dict[str, str]:
        """Return the groups that are cut, each with the one that it is cut from."""
        return {cut: group for group, made in self.cuts.items() for cut in made}

    @property
    def polish(self) -> int:
        """Return the epochs for which a cut is polished; 0 where nothing is cut."""
        points = [x for made in self.cuts.values() for cut in made.values() for x in cut.values()]
        return points[0].settings.max_num_epochs if points and points[0].settings else 0

    def epochs(self, most: bool = False) -> int:
        """Return the epochs of the race, of all points, if none ends early by itself."""
        total, before = 0, 0
        for leg, n in enumerate(self.sizes(most), start=1):
            seeds = len(self.seeds_of(leg))
            total += n * (seeds * self.epoch(leg) - before * self.epoch(leg - 1))
            before = seeds
        return total + n * (self.ranks - 1) * len(self.seeds) * self.polish

    @property
    def whole(self) -> int:
        """Return the epochs of the grid, without a race."""
        return len(self.groups) * self.ranks * len(self.seeds) * self.longest

    def in_words(self) -> str:
        """Return how the race goes: how many settings train to which epoch."""
        parts = []
        for leg, (least, most) in enumerate(zip(self.sizes(), self.sizes(True), strict=True), 1):
            n = f"{least}" if least == most else f"{least} to {most}"
            seeds = len(self.seeds_of(leg))
            with_seeds = f" with {seeds} seeds" if seeds > 1 else ""
            parts.append(f"{n}{with_seeds} to epoch {self.epoch(leg)}")
        if self.cuts:
            lower = "a lower rank" if self.ranks == 2 else f"{self.ranks - 1} lower ranks"
            epochs = f"{self.polish} epoch{'s' if self.polish > 1 else ''}"
            parts.append(f"then cut to {lower} and polished for {epochs}")
        return f"{self.name} settings race: {', '.join(parts)}"


def heats_of(config: Config, points: Mapping[str, Point]) -> dict[str, Heat]:
    """Return the heats of a sweep by name; none where all train to the end.

    A method that has no more settings than finalists does not race.
    """
    if config.rules is None:
        return {}
    kinds: dict[str, dict[str, dict[int, Point]]] = {}
    for point in points.values():
        if point.settings and not point.cut_from:
            groups = kinds.setdefault(point.kind, {})
            groups.setdefault(point.group, {})[point.settings.seed] = point
    cuts = _cuts(points)
    heats = {}
    for name, groups in kinds.items():
        first = next(iter(next(iter(groups.values())).values())).settings
        own = {group: cuts[group] for group in groups if group in cuts}
        if first and (own or len(groups) > config.rules.finalists):
            heats[name] = Heat(name, groups, config.rules, first.max_num_epochs, own)
    return heats


def _placement(seeds: Mapping[int, Point]) -> str:
    """Return the layers of the points of a group that have adapters."""
    settings = next(iter(seeds.values())).settings
    return settings.placement if settings else PLACEMENT


def _cuts(points: Mapping[str, Point]) -> dict[str, dict[str, dict[int, Point]]]:
    """Return what is cut and polished, {group that it is cut from: {group: {seed: point}}}."""
    cuts: dict[str, dict[str, dict[int, Point]]] = {}
    for point in points.values():
        if point.polished and point.settings:
            made = cuts.setdefault(points[point.cut_from].group, {})
            made.setdefault(point.group, {})[point.settings.seed] = point
    return cuts


def raced(heats: Mapping[str, Heat]) -> dict[str, Point]:
    """Return the points that race, and what is cut from them, by name."""
    groups = [seeds for heat in heats.values() for seeds in heat.groups.values()]
    groups += [
        seeds for heat in heats.values() for made in heat.cuts.values() for seeds in made.values()
    ]
    return {point.name: point for seeds in groups for point in seeds.values()}


def race_packs(config: Config, heats: Mapping[str, Heat], cores: int) -> dict[str, Pack]:
    """Return the packs of all legs by name; those of the first legs have their points."""
    packs: list[Pack] = []
    for heat in heats.values():
        rooms = [
            Room(number, seed, placement, min(n, len(heat.of_placement(placement))))
            for number, n in enumerate(heat.sizes(most=True), start=1)
            for seed, placement in itertools.product(heat.seeds_of(number), heat.placements)
        ]
        packs += [pack for room in rooms for pack in _packs_of(config, heat, room, cores)]
        last = [room for room in rooms if heat.cuts and room.number == heat.legs]
        packs += [pack for room in last for pack in _packs_of_cuts(config, heat, room, cores)]
    return {pack.name: pack for pack in packs}


class Room(NamedTuple):
    """What has room in the packs of a leg: so many points of one seed and placement, at most."""

    number: int
    seed: int
    placement: str
    points: int


def _packs_of(config: Config, heat: Heat, room: Room, cores: int) -> Iterable[Pack]:
    """Yield the packs of one leg, seed and placement."""
    number, seed, placement, n = room
    groups = heat.of_placement(placement)
    example = next(iter(groups.values()))[seed]
    assert example.settings is not None
    alone = example.alone or example.settings.method not in ADAPTERS
    size = 1 if alone else size_of(config, n, cores)
    last = number == heat.legs
    until = None if last else heat.epoch(number)
    first = [seeds[seed] for seeds in groups.values()] if number == 1 else []
    stem = f"{heat.name}{placed(config, placement)}_{'end' if last else f'rung{number}'}_s{seed}"
    replays, keeps = example.protocol
    leg = Leg(heat.name, number, heat.epoch(number - 1), until, seed, size, replays, keeps=keeps)
    for i, start in enumerate(range(0, n, size), start=1):
        own = replace(leg, places=min(size, n - start), placement=placement)
        yield Pack(f"{stem}_{i}", tuple(first[start : start + size]), leg=own)


def _packs_of_cuts(config: Config, heat: Heat, room: Room, cores: int) -> Iterable[Pack]:
    """Yield the packs of one seed and placement that polish what is cut from the finalists."""
    seed, n = room.seed, room.points * (heat.ranks - 1)
    replays, keeps = next(iter(heat.groups.values()))[seed].protocol
    size = size_of(config, n, cores)
    leg = Leg(heat.name, heat.legs, 0, None, seed, size, replays, True, room.placement, keeps)
    stem = f"{heat.name}{placed(config, room.placement)}_cut_s{seed}"
    for i, start in enumerate(range(0, n, size), start=1):
        own = replace(leg, places=min(size, n - start))
        yield Pack(f"{stem}_{i}", (), leg=own)


def assign(
    heat: Heat, leg: int, kept: Iterable[str], packs: Mapping[str, Pack]
) -> dict[str, list[str]]:
    """Return who fills the packs of a leg, {pack: points}.

    Args:
        heat: the heat
        leg: the number of the leg
        kept: the groups that go on
        packs: the packs of the sweep
    """
    kept = set(kept)
    left: dict[tuple[int, bool, str], list[str]] = {}
    for placement in heat.placements:
        groups = {x: seeds for x, seeds in heat.of_placement(placement).items() if x in kept}
        cuts = [seeds for x in groups for seeds in heat.cuts.get(x, {}).values()]
        for x in heat.seeds_of(leg):
            left[x, False, placement] = [seeds[x].name for seeds in groups.values()]
        for x in heat.seeds if leg == heat.legs else []:
            left[x, True, placement] = [seeds[x].name for seeds in cuts]
    filled = {}
    for pack in packs.values():
        if pack.leg and (pack.leg.heat, pack.leg.number) == (heat.name, leg):
            which = pack.leg.seed, pack.leg.polishes, pack.leg.placement
            filled[pack.name] = left[which][: pack.places]
            left[which] = left[which][pack.places :]
    assert not any(left.values())
    return filled


def read_rung(layout: Layout, number: int) -> dict[str, Any]:
    """Return what was decided at a rung.

    Args:
        layout: the paths of the sweep
        number: of the rung, from 1

    Raises UserError: the file is missing or damaged.
    """
    found: dict[str, Any] = read_json(layout.receipt("rung", str(number)))
    return found


def _read_rungs(layout: Layout, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return what was decided at some rungs, each read once, as far as they are there."""
    made = [x for x in set(numbers) if layout.receipt("rung", str(x)).is_file()]
    return {x: read_rung(layout, x) for x in made}


def fill(packs: Mapping[str, Pack], points: Mapping[str, Point], layout: Layout) -> dict[str, Pack]:
    """Return packs with the points that the rungs have given them, as far as they have."""
    before = {x: pack.leg.number - 1 for x, pack in packs.items() if pack.leg}
    rungs = _read_rungs(layout, before.values())
    filled = dict(packs)
    for name, rung in before.items():
        if rung:
            found = rungs[rung]["packs"] if rung in rungs else {}
            members = tuple(points[x] for x in found.get(name, []) if x in points)
            filled[name] = replace(packs[name], points=members)
    return filled


def pack_at(packs: Mapping[str, Pack], point: str, rung: int) -> str:
    """Return the pack in which a point trained to a rung.

    Args:
        packs: the packs of the sweep
        point: the point
        rung: the number of the rung
    """
    legs = (x for x in packs.values() if x.leg and x.leg.number == rung)
    return next(x.name for x in legs if point in [one.name for one in x.points])


def stops(heats: Mapping[str, Heat], layout: Layout) -> dict[str, int]:
    """Return the points that were stopped, with the rung; 0 for those that never began.

    Args:
        heats: the heats
        layout: the paths of the sweep
    """
    found: dict[str, int] = {}
    rungs = _read_rungs(layout, (x for heat in heats.values() for x in range(1, heat.legs)))
    for heat in heats.values():
        left = set(heat.groups)
        for rung in range(1, heat.legs):
            if rung not in rungs:
                break
            kept = set(rungs[rung]["heats"].get(heat.name, {}).get("kept", left))
            for group in left - kept:
                for seed, point in heat.groups[group].items():
                    found[point.name] = rung if seed in heat.seeds_of(rung) else 0
                for cut in heat.cuts.get(group, {}).values():
                    found |= {point.name: 0 for point in cut.values()}
            left &= kept
    return found
