"""Know what a training asks of a cluster, and say what a start will take."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora.errors import UserError
from lora.files.history import read_history
from lora.files.sealed import read_json
from lora.plan.freshness import Verdict, Why
from lora.plan.job import key_of
from lora.plan.layout import Layout
from lora.plan.packs import Pack
from lora.plan.points import Point
from lora.plan.race import Heat, raced

MINUTES_UNKNOWN = 240  # of a training whose speed is not known yet
START = 10  # minutes to start and to write
MARGIN = 2  # nodes differ


@dataclass(frozen=True)
class Times:
    """What trained points took.

    seconds:   by point; of stopped ones, would have taken
    per_epoch: seconds of an epoch, by point
    """

    seconds: dict[str, float] = field(default_factory=dict)
    per_epoch: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, packs: Iterable[str]) -> "Times":
        """Read them from the receipts of packs, where there are any."""
        found: dict[str, float] = {}
        paces: dict[str, float] = {}
        for pack in packs:
            receipt = layout.receipt("train", pack)
            results = read_json(receipt) if receipt.is_file() else {}
            found |= {name: _seconds(result) for name, result in results.items()}
            paces |= {
                name: float(result["seconds"]) / result["epochs"]
                for name, result in results.items()
                if result.get("epochs", 0) > 0
            }
        return cls(found, paces)

    def median(self, points: Iterable[str]) -> float | None:
        """Return the median of some points, None where none is known."""
        known = [self.seconds[x] for x in points if x in self.seconds]
        return statistics.median(known) if known else None


def minutes_of(packs: Mapping[str, Pack], times: Times, layout: Layout) -> dict[str, int]:
    """Return the minutes of a job for each pack: twice what its epochs take, or 240.

    Args:
        packs: All packs, by name.
        times: What trained points took.
        layout: Where interrupted trainings have left how far they are.
    """
    lora = [x for pack in packs.values() for x in pack.points if x.is_lora]
    paces = [times.per_epoch[x.name] for x in lora if x.name in times.per_epoch]
    if not paces:
        return {name: MINUTES_UNKNOWN for name, pack in packs.items() if pack.trains}
    pace, whole = statistics.median(paces), _most_epochs(lora)
    return {
        name: math.ceil(START + MARGIN * pace * _left(pack, whole, layout) * pack.places / 60)
        for name, pack in packs.items()
        if pack.trains
    }


def _left(pack: Pack, whole: int, layout: Layout) -> int:
    """Return the epochs that a pack has still to train.

    Args:
        pack: The pack.
        whole: Epochs of a training, where a race has not yet decided who is in the pack.
        layout: The results folder.
    """
    most = _most_epochs(pack.points) or whole
    first, last = (pack.leg.after, pack.leg.until or most) if pack.leg else (0, most)
    if (layout.work(pack.name) / "checkpoint.pt").is_file():
        rung = pack.leg.number if pack.leg and pack.leg.until is not None else 0
        folders = [layout.training(x.name, rung) for x in pack.points]
        done = [len(read_history(x / "metrics.jsonl")) - 1 for x in folders]
        first = max(first, min(done, default=0))
    return max(0, last - first)


def _most_epochs(points: Iterable[Point]) -> int:
    """Return the most epochs that one of some points trains; 0 for no points."""
    return max((x.settings.max_num_epochs for x in points if x.settings), default=0)


def check_profile(resources: Mapping[str, object], of_rules: Mapping[str, Any]) -> None:
    """Raise UserError for a place of a profile that was not filled in, before jobs must fail.

    Args:
        resources: Its default-resources.
        of_rules: Its set-resources, by rule.
    """
    parts = {"default-resources": resources}
    parts |= {f"set-resources: {rule}": own for rule, own in of_rules.items()}
    for part, given in parts.items():
        for name, resource in given.items():
            if "FILL_IN" in str(getattr(resource, "raw", resource)):
                raise UserError(
                    f"profile: {part}: {name} is not filled in; write yours into the "
                    "profile's config.yaml, or delete the line where your cluster wants none"
                )


@dataclass(frozen=True)
class Forecast:
    """What a start will do with the trainings.

    packs:    those that train
    points:   {point: why it trains}, those that are trained again among them
    known:    seconds that points of the sweep took
    standing: how many points are trained and stay
    kept:     of those, how many were trained by another version of the code
    """

    packs: list[Pack]
    points: dict[str, Verdict]
    known: Times
    standing: int
    kept: int

    @classmethod
    def of(
        cls, packs: Mapping[str, Pack], verdicts: Mapping[str, Verdict], known: Times
    ) -> "Forecast":
        """Count the trainings of a plan."""
        training = {x.name: verdicts[key_of("train", x.name)] for x in packs.values() if x.trains}
        todo = [packs[name] for name, verdict in training.items() if verdict.runs]
        points = {x.name: training[pack.name] for pack in todo for x in pack.points}
        stand = [packs[name] for name, verdict in training.items() if not verdict.runs]
        standing = {x.name: pack for pack in stand for x in pack.points if x.name not in points}
        kept = sum(training[pack.name].kept for pack in standing.values())
        return cls(todo, points, known, len(standing), kept)

    @property
    def upgraded(self) -> list[str]:
        """Return the points that are trained already and would be again for changed code alone."""
        return [
            name
            for name, verdict in self.points.items()
            if verdict.why is Why.CODE and name in self.known.seconds
        ]

    def hours(self, points: Iterable[str] | None = None) -> float | None:
        """Return the hours of some points, by what they or the others took; None if not known."""
        names = list(self.points if points is None else points)
        usual = self.known.median(self.known.seconds)
        seconds = [self.known.seconds.get(x, usual) for x in names]
        return sum(x for x in seconds if x is not None) / 3600 if usual or not names else None

    def line(self, device: str) -> str:
        """Return the plan's first line: how many points train, why, and for how long."""
        total = len(self.points) + self.standing
        if not self.points:
            trained = f"plan: nothing to train, {total} of {total} points are trained"
            return trained + (f", {self.kept} of them by another version" if self.kept else "")
        reasons = Counter(str(verdict.why) for verdict in self.points.values())
        whys = ", ".join(f"{n} {why}" for why, n in reasons.items())
        what = {v.what for v in self.points.values() if v.what and v.why is not Why.NEW}
        detail = f" ({'; '.join(sorted(what)[:3])})" if what else ""
        hours = self.hours()
        takes = "no time known yet" if hours is None else f"about {_hours(hours)} {device} hours"
        kept = f"; {self.kept} kept from another version" if self.kept else ""
        return (
            f"plan: {len(self.points)} of {total} points to train in {len(self.packs)} jobs: "
            f"{whys}{detail}; {takes}{kept}"
        )


def race_line(heat: Heat, known: Times, device: str) -> str:
    """Return how a race goes, and what it trains at least and at most.

    Args:
        heat: the race of one method
        known: seconds that points took
        device: what trains, as hours are counted
    """
    least, most = heat.epochs(), heat.epochs(most=True)
    usual = known.median(raced({heat.name: heat}))

    def both(text: Callable[[int], str]) -> str:
        return text(least) if least == most else f"{text(least)} to {text(most)}"

    line = f"race: {heat.in_words()}; {both('{:,}'.format)} of {heat.whole:,} epochs"
    if usual is None:
        return line
    return f"{line}, about {both(lambda x: _hours(x * usual / heat.longest / 3600))} {device} hours"


def _seconds(result: Mapping[str, Any]) -> float:
    """Return the seconds of a training; of a part of one, by its epochs, those of the whole."""
    seconds = float(result["seconds"])
    if result.get("rung") and result["epochs"] > 0:
        return seconds * float(result["settings"]["max_num_epochs"]) / float(result["epochs"])
    return seconds


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 0.1 else f"{hours:.3f}"
