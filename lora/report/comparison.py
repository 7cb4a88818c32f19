"""Compare groups of points over their seeds, and say what such a comparison can show.

Two groups a and b of n seeds each are compared by Welch's t-test,

    t = (mean_a - mean_b) / sqrt(s_a^2 / n_a + s_b^2 / n_b),

at the level 1 - (1 - 0.05)^(1/m) of Sidak (J. Am. Stat. Assoc. 62, 626, 1967), where m counts the
comparisons that could have been made in its place: the best of 8 settings against the best of 3 on
2 test sets is one of 48.  So one sweep in twenty whose settings differ by noise alone finds
anything better.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind_from_stats

from lora.catalogue.columns import ENERGY, FORCE, VALID
from lora.catalogue.endings import Ending
from lora.plan.sweep import Sweep
from lora.selection.results import Results
from lora.selection.table import by_group, copied, make_table, of_all_data, sound, trained

CHANCE = 0.05  # that a sweep of settings that are equal finds one better
CLOSE = 0.05  # relative difference that another seed can make


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of a group.

    Attributes:
        mean: Its mean.
        std: Its standard deviation; nan of one seed.
        n: The number of seeds.
    """

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Return the spread of some values.

        Args:
            values: One for each seed.
        """
        std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), std, len(values))

    def text(self, digits: int) -> str:
        """Return it as 63.3 ± 1.2, without a spread where there is one seed, - where there is none.

        Args:
            digits: The digits after the point.
        """
        if not self.n:
            return "-"
        spread = f" ± {self.std:.{digits}f}" if self.n > 1 else ""
        return f"{self.mean:.{digits}f}{spread}"


def compare(one: Spread, other: Spread, comparisons: int = 1) -> str:
    """Compare two numbers of which the lower is better.

    Args:
        one: The number that the answer is about.
        other: The number that it is compared with.
        comparisons: How many could have been made in place of this one.

    Returns:
        better, worse, or equal within the spread over seeds; "" where one has a single seed.
    """
    if min(one.n, other.n) < 2:
        return ""
    if one.std + other.std > 0:
        of = (one.mean, one.std, one.n, other.mean, other.std, other.n)
        level = 1 - (1 - CHANCE) ** (1 / comparisons)
        if not ttest_ind_from_stats(*of, equal_var=False).pvalue < level:
            return "equal"
    return "equal" if one.mean == other.mean else "better" if one.mean < other.mean else "worse"


def close(a: float, b: float) -> bool:
    """Return True where another seed could turn the order of two errors round.

    Args:
        a: An error.
        b: Another.
    """
    return abs(a - b) < CLOSE * min(a, b)


class Errors:
    """Mean and spread over seeds of each group on each set.

    Attributes:
        table: The table of points.
        metric: The error that is compared.
        sets: The names of the sets.
        tests: The test sets; the validation set where there are none.
        groups: The groups, the lowest error on the validation set first; without those of which
            every training failed.
        group_of: {point: its group}.
        origins: {point: what it was cut from, in words}, of cuts.
        copies: The points without a training of their own, which have the numbers of another's.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        metric: str,
        origins: Mapping[str, str] | None = None,
        copies: Collection[str] = (),
    ) -> None:
        """Average the errors of a table over seeds.

        Args:
            table: The table of points.
            metric: The error that is compared.
            origins: {point: what it was cut from, in words}, of cuts.
            copies: The points without a training of their own.
        """
        self.metric, self.table, self.origins = metric, table, origins or {}
        self.copies = copies
        metrics = list(dict.fromkeys([ENERGY, FORCE, metric]))
        self.found = by_group(table, metrics)
        self.sets = list(dict.fromkeys(table["test_set"]))
        self.tests = [s for s in self.sets if s != VALID] or self.sets
        rank = self.found.xs(VALID, level="test_set")[(metric, "mean")].sort_values()
        self.groups: list[str] = list(rank.dropna().index)
        self.group_of: dict[str, str] = dict(zip(table["point"], table["group"], strict=True))

    @classmethod
    def of_sweep(cls, sweep: Sweep, results: Results, metric: str) -> "Errors":
        """Average the errors of a sweep over seeds, in full digits, where sweep.csv has six.

        Args:
            sweep: The sweep.
            results: What its steps found.
            metric: The error that is compared.
        """
        origins = {x: point.origin for x, point in sweep.points.items() if point.origin}
        table = make_table(sweep.points, results, sweep.config.pack.gpus)
        return cls(table, metric, origins, copied(sweep.points))

    def of(self, group: str, test_set: str, metric: str) -> Spread:
        """Return an error over the seeds of a group."""
        mean, std, n = self.found[metric].loc[(group, test_set)].tolist()
        return Spread(float(mean), float(std), int(n))

    @property
    def measured(self) -> tuple[list[str], str]:
        """Return the test sets with errors of forces, and that error; else those with energies.

        The validation set stands for test sets without labels.
        """
        for sets in (self.tests, [VALID]):
            for metric in (FORCE, ENERGY):
                known = [s for s in sets if self.table.loc[self._on(s), metric].notna().any()]
                if known:
                    return known, metric
        return [VALID], self.metric

    def _on(self, test_set: str) -> "pd.Series[bool]":
        """Return which rows of the table are of a set."""
        return self.table["test_set"] == test_set

    def mean(self, group: str, test_set: str, metric: str = FORCE) -> float:
        """Return the mean of an error over seeds."""
        return self.of(group, test_set, metric).mean

    def text(self, group: str, test_set: str, metric: str, digits: int) -> str:
        """Return an error as 63.3 ± 1.2, without a spread where there is one seed."""
        return self.of(group, test_set, metric).text(digits)

    def close(self, one: str, other: str, test_set: str, metric: str) -> bool:
        """Return True where another seed could turn the order of two groups round."""
        a, b = (self.mean(x, test_set, metric) for x in (one, other))
        return close(a, b)

    def kind_of(self, group: str) -> str:
        """Return what the points of a group are."""
        return str(self.table.loc[self.table["group"] == group, "method"].iloc[0])

    def of_kind(self, kind: str) -> list[str]:
        """Return the groups of a kind that trained on all data, the lowest error first."""
        whole = of_all_data(self.table)
        members = set(whole.loc[whole["method"] == kind, "group"])
        return [group for group in self.groups if group in members]

    def tried(self, group: str) -> int:
        """Return the number of settings that a group is the best of, or one of.

        Those that a race has stopped count: the best was chosen among them, too.
        """
        whole = of_all_data(self.table)
        whole = whole[whole["method"] == self.kind_of(group)]
        stopped = set(whole.loc[whole["ended_by"] == Ending.STOPPED, "group"])
        return max(1, len(stopped.union(self.of_kind(self.kind_of(group)))))

    def improving(self, *groups: str) -> tuple[int, int]:
        """Return how many trainings had their lowest error in the last epoch, and of how many."""
        points = self._trainings()
        points = points[points["group"].isin(groups)]
        last = points["best_epoch"] == points["epochs"]
        full_length = points["ended_by"] == Ending.MAX_NUM_EPOCHS
        return int((last & full_length).sum()), len(points)

    def unmoved(self) -> tuple[list[str], int]:
        """Return the points whose best epoch was that before training, and of how many."""
        points = self._trainings()
        points = points[points["epochs"] > 0]
        return sorted(points.loc[points["best_epoch"] == 0, "point"]), len(points)

    def _trainings(self) -> pd.DataFrame:
        """Return a row of each training that came to an end."""
        points = trained(sound(self.table)).drop_duplicates("point")
        return points[~points["point"].isin(self.copies)]

    def of_points(self, values: Mapping[str, float]) -> dict[str, Spread]:
        """Return numbers of points over the seeds of their groups, {group: spread}.

        Args:
            values: {point: number}.
        """
        grouped: dict[str, list[float]] = {}
        for point, value in values.items():
            grouped.setdefault(self.group_of[point], []).append(value)
        return {group: Spread.of(found) for group, found in grouped.items()}
