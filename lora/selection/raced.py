"""Read how a race went, and tell how sure it makes the choice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora.plan.race import Heat, read_rung
from lora.plan.sweep import Sweep
from lora.selection.race import Rung, going_on

DRAWS = 2000


@dataclass(frozen=True)
class Raced:
    """The race of one method as it went.

    Attributes:
        heat: Who raced, and how.
        rungs: What was decided at each.
        stopped: {group: why}, of those that did not come to the end.
        error: What was compared, a key of metrics.jsonl.
    """

    heat: Heat
    rungs: list[Rung]
    stopped: dict[str, str]
    error: str

    @property
    def finalists(self) -> tuple[str, ...]:
        """Return the groups that were trained to the end."""
        return self.rungs[-1].kept

    @property
    def cuts(self) -> dict[str, str]:
        """Return the groups that were cut from finalists, each with its finalist."""
        return {x: source for x, source in self.heat.sources.items() if source in self.finalists}

    def last(self, group: str) -> Rung:
        """Return the last rung at which a group was compared."""
        return [rung for rung in self.rungs if group in rung.scores][-1]


@dataclass(frozen=True)
class Sure:
    """How often other draws of seeds and rungs lead to the same choice.

    Attributes:
        same: The share of draws in which the same group has the lowest error.
        missed: The share in which one that was stopped has it.
    """

    same: float
    missed: float


def read_races(sweep: Sweep) -> list[Raced]:
    """Read the races of a sweep that has run.

    Args:
        sweep: The sweep.

    Raises:
        UserError: The file of a rung is missing or damaged.
    """
    if not sweep.heats:
        return []
    n_rungs = next(iter(sweep.heats.values())).legs - 1
    files = [read_rung(sweep.layout, i + 1) for i in range(n_rungs)]
    races = []
    for name, heat in sweep.heats.items():
        found = [file["heats"][name] for file in files]
        stopped = {group: why for one in found for group, why in one["stopped"].items()}
        races.append(Raced(heat, [_rung(x) for x in found], stopped, files[0]["error"]))
    return races


def _rung(found: dict[str, Any]) -> Rung:
    """Return what the file of a rung says; JSON has no infinity."""
    scores = {x: math.inf if s is None else float(s) for x, s in found["scores"].items()}
    cut = math.inf if found["cut"] is None else float(found["cut"])
    return Rung(found["epoch"], scores, found["noise"], cut, tuple(found["kept"]))


def sure(race: Raced, finals: Mapping[str, list[float]], best: str, draws: int = DRAWS) -> Sure:
    """Estimate how sure the best of a race is, by a bootstrap over seeds and rungs.

    In each draw the scores of every rung get noise of the size that was seen there, and the same
    rules decide again; of the finalists, and of what is cut from them, the errors at the end are
    drawn from those of their seeds with replacement.  The end of a group that was stopped is not
    known: it is taken to be as far from the best as it was at its last rung, with the noise of that
    rung.

    Args:
        race: The race.
        finals: {group: its errors at the end, one a seed}, of the finalists and what is cut from
            them.
        best: The group that has the lowest of them.
        draws: The number of draws; they are the same each time.
    """
    rng = np.random.default_rng(0)
    ends = {group: np.log(errors) for group, errors in finals.items() if len(errors)}
    failed = set(race.finalists) - ends.keys()
    winners = []
    for _ in range(draws):
        left = [x for x in _survivors(race, rng) if x not in failed]
        left += [x for x, source in race.cuts.items() if source in left and x in ends]
        drawn = {x: rng.choice(ends[x], len(ends[x])).mean() for x in left if x in ends}
        for group in left:
            if group not in ends:
                rung = race.last(group)
                known = [x for x in ends if x in rung.scores]
                behind = rung.scores[group] - min(rung.scores[x] for x in known)
                at = ends[min(known, key=rung.scores.__getitem__)].mean()
                drawn[group] = at + behind + rng.normal(scale=rung.noise)
        winners.append(min(drawn, key=drawn.__getitem__) if drawn else "")
    return Sure(winners.count(best) / draws, sum(x in race.stopped for x in winners) / draws)


def _survivors(race: Raced, rng: np.random.Generator) -> list[str]:
    """Return who comes to the end in one draw."""
    left = list(race.rungs[0].scores)
    for number, rung in enumerate(race.rungs):
        # one that was stopped before is compared as it was
        known = {x: race.last(x).scores[x] - min(race.last(x).scores.values()) for x in left}
        known |= {x: s - min(rung.scores.values()) for x, s in rung.scores.items() if x in left}
        noisy = {x: s + rng.normal(scale=rung.noise / math.sqrt(2)) for x, s in known.items()}
        rules, n, ranks = race.heat.rules, len(left), race.heat.ranks
        ordered = {x: noisy[x] for x in sorted(left, key=noisy.__getitem__)}
        room, most = (rule(n, number, ranks) for rule in (rules.room, rules.most))
        sizes = room, rules.margin * rung.noise, most
        left = list(going_on(ordered, *sizes)[1])
    return left
