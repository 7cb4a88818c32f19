"""Say in words what won and by how much, what was refused, and how LoRA stands."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind_from_stats

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.catalogue.endings import Ending
from lora.plan.points import FOUNDATION
from lora.selection.choose import Choice, Verdicts
from lora.selection.table import BASELINES, by_group, of_all_data

SHOWN = 6  # refused points that are named
WORTH = 0.8  # of the forgetting that replay has to get below, to be worth an error
CHANCE = 0.05  # of a difference by the seeds alone, under which it is called one
CLOSE = 0.05  # relative difference that another seed can make
TITLES = {
    "foundation": "the foundation model",
    "full": "full fine-tuning",
    "full_replay": "full fine-tuning with replay",
    "freeze": "freezing",
}


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
    """

    def __init__(self, table: pd.DataFrame, metric: str) -> None:
        self.metric, self.table = metric, table
        metrics = list(dict.fromkeys([ENERGY, FORCE, metric]))
        self.found = by_group(table, metrics)
        self.sets = list(dict.fromkeys(table["test_set"]))
        self.tests = [s for s in self.sets if s != VALID] or self.sets
        rank = self.found.xs(VALID, level="test_set")[(metric, "mean")].sort_values()
        self.groups: list[str] = list(rank.dropna().index)
        self.group_of: dict[str, str] = dict(zip(table["point"], table["group"], strict=True))

    def of(self, group: str, test_set: str, metric: str) -> tuple[float, float, int]:
        """Return mean, standard deviation and number of seeds of an error."""
        mean, std, n = self.found[metric].loc[(group, test_set)].tolist()
        return float(mean), float(std), int(n)

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
        return self.of(group, test_set, metric)[0]

    def text(self, group: str, test_set: str, metric: str, digits: int) -> str:
        """Return an error as 63.3 ± 1.2, without a spread where there is one seed.

        A dash stands where the set has no such labels.
        """
        mean, std, n = self.of(group, test_set, metric)
        if not n:
            return "-"
        return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if n > 1 else "")

    def versus(self, one: str, other: str, test_set: str, metric: str) -> str:
        """Compare two groups by Welch's t-test at 5 %.

        Returns:
            better, worse, or equal within the spread over seeds; "" where one has a single seed.
        """
        (a, sa, na), (b, sb, nb) = (self.of(x, test_set, metric) for x in (one, other))
        if min(na, nb) < 2:
            return ""
        if sa + sb > 0:
            p = ttest_ind_from_stats(a, sa, na, b, sb, nb, equal_var=False).pvalue
            if not p < CHANCE:
                return "equal"
        return "equal" if a == b else "better" if a < b else "worse"

    def close(self, one: str, other: str, test_set: str, metric: str) -> bool:
        """Return True where another seed could turn the order of two groups round."""
        a, b = (self.mean(x, test_set, metric) for x in (one, other))
        return abs(a - b) < CLOSE * min(a, b)

    def kind_of(self, group: str) -> str:
        """Return what the points of a group are."""
        return str(self.table.loc[self.table["group"] == group, "method"].iloc[0])

    def of_kind(self, kind: str) -> list[str]:
        """Return the groups of a kind that trained on all data, the lowest error first."""
        whole = of_all_data(self.table)
        members = set(whole.loc[whole["method"] == kind, "group"])
        return [group for group in self.groups if group in members]


def words(errors: Errors, choice: Choice, forgotten: Sequence[str] = ()) -> list[str]:
    """Return what won and by how much, what was refused, and how LoRA stands.

    Args:
        errors: The errors of every group.
        choice: The decision.
        forgotten: What there is to say of forgetting, see `forgetting`.
    """
    chosen = errors.group_of[choice.point]
    one_seed = errors.of(chosen, VALID, errors.metric)[2] == 1
    lines = [_chosen(errors, choice), *_refusals(choice)]
    if others := _others(errors, choice):
        lines.append(_next(errors, chosen, others[0]))
    lines += [*_failures(errors.table), *forgotten]
    if choice.lora is None:
        return lines
    lora = errors.group_of[choice.lora]
    if lora != chosen:
        lines.append(f"The best LoRA point by the same rule is {choice.lora}.")
    for kind in (FOUNDATION.kind, *BASELINES):
        for rival in errors.of_kind(kind):
            lines += _against(errors, lora, rival)
    if one_seed:
        lines.append("With one seed, differences of a few percent are noise.")
    return lines + _diverged(errors.table)


def _chosen(errors: Errors, choice: Choice) -> str:
    """Return the rule by which the point was chosen, and its error."""
    group = errors.group_of[choice.point]
    n = errors.of(group, VALID, errors.metric)[2]
    value = errors.text(group, VALID, errors.metric, 1)
    seeds = f", the mean of {n} seeds, of which {choice.point} is the best" if n > 1 else ""
    rule = f"the lowest {BY_KEY[errors.metric].heading} on the validation set, {value}{seeds}"
    if choice.point in choice.refused:
        return f"No point passes all checks. Of all points, {choice.point} has {rule}."
    if choice.refused:
        return f"Chosen: {choice.point}. Of the points that pass all checks, it has {rule}."
    return f"Chosen: {choice.point}. It has {rule}."


def _refusals(choice: Choice) -> list[str]:
    """Return the points that were refused, those with the lower errors first, and why."""
    if not choice.refused:
        return ["All points pass the checks."] if any(choice.verdicts.values()) else []
    reasons = choice.reasons
    lines = [
        f"Refused: {point}: {'; '.join(verdict.text() for verdict in reasons[point].values())}."
        for point in choice.refused[:SHOWN]
    ]
    more = len(choice.refused) - SHOWN
    return lines + ([f"Refused: {more} more; see the table of checks."] if more > 0 else [])


def _failures(table: pd.DataFrame) -> list[str]:
    """Return the trainings that failed, and why."""
    failed = table[table["ended_by"] == Ending.FAILED].drop_duplicates("point")
    lines = [
        f"Failed, and left out of all comparisons: {point}: {why}."
        for point, why in zip(failed["point"], failed["reason"], strict=True)
    ]
    return lines + (["The next snakemake run trains what failed again."] if lines else [])


def _diverged(table: pd.DataFrame) -> list[str]:
    """Return the trainings that diverged, and where."""
    diverged = table[table["ended_by"] == "diverged"].drop_duplicates("point")
    named = zip(diverged["point"], diverged["reason"], strict=True)
    points = ", ".join(sorted(f"{point} ({why})" for point, why in named))
    return [f"Diverged; the best epoch before is shown: {points}."] if points else []


def _others(errors: Errors, choice: Choice) -> list[str]:
    """Return the other groups that could have been chosen, the lowest error first."""
    refused = () if choice.point in choice.refused else choice.refused
    whole = of_all_data(errors.table)
    left = {*whole.loc[~whole["point"].isin(refused), "group"]} - {errors.group_of[choice.point]}
    return [group for group in errors.groups if group in left]


def _next(errors: Errors, first: str, second: str) -> str:
    value = errors.text(second, VALID, errors.metric, 1)
    verdict = errors.versus(first, second, VALID, errors.metric)
    close = errors.close(first, second, VALID, errors.metric)
    remark = {
        "equal": "; the difference is within the spread over seeds",
        "better": "; the difference is larger than the spread over seeds explains",
        "": "; with one seed, differences this small are noise" if close else "",
    }
    return f"The next best is {second} with {value}{remark.get(verdict, '')}."


def _against(errors: Errors, lora: str, rival: str) -> list[str]:
    """Return LoRA against a baseline on every test set, and who is ahead where."""
    tests, metric = errors.measured
    parts = []
    for s in tests:
        verdict = errors.versus(lora, rival, s, metric)
        pair = " against ".join(errors.text(x, s, metric, 1) for x in (lora, rival))
        parts.append(f"{s} {pair}" + (f" ({verdict})" if verdict else ""))
    what = BY_KEY[metric]
    title = f"{what.label[0].upper()}{what.label[1:]} ({what.unit})"
    numbers = f"{title} of {lora} against {rival}: {', '.join(parts)}."
    lost = [
        s
        for s in tests
        if errors.versus(lora, rival, s, metric) in ("worse", "")
        and errors.mean(lora, s, metric) > errors.mean(rival, s, metric)
    ]
    one_seed = errors.of(lora, tests[0], metric)[2] == 1
    if one_seed and all(errors.close(lora, rival, s, metric) for s in tests):
        return [numbers, _level(errors, rival, lost, tests)]
    return [f"{numbers} LoRA loses to {rival} on: {', '.join(lost)}." if lost else numbers]


def _level(errors: Errors, rival: str, lost: list[str], tests: list[str]) -> str:
    """Say that one seed does not tell LoRA and a baseline apart, and who is ahead where."""
    title = TITLES.get(errors.kind_of(rival), rival)
    won = [s for s in tests if s not in lost]
    ahead = [f"{who} is better on {', '.join(x)}" for who, x in (("LoRA", won), (title, lost)) if x]
    return f"With one seed, LoRA and {title} cannot be told apart: {'; '.join(ahead)}."


def forgetting(verdicts: Verdicts, points: Sequence[str]) -> list[str]:
    """Say what some points forgot of the foundation model's own level of theory."""
    parts = [
        f"{point} {one.compared:.1f}"
        for point in dict.fromkeys(points)
        if (one := verdicts.get(point, {}).get("forgetting")) and one.compared is not None
    ]
    if not parts:
        return []
    return [
        "Force error at the foundation model's own level of theory, in multiples of its own: "
        f"{', '.join(parts)}."
    ]


def replay_and_lora(errors: Errors, choice: Choice) -> list[str]:
    """Say whether replay pays for the best LoRA settings, by what it keeps and what it costs.

    MACE's guidance advises against the two together; here the numbers of the sweep speak.
    """
    table = errors.table
    plain = table.loc[table["point"] == choice.lora, "plain"]
    pair = table[table["plain"].isin(plain) & table["group"].isin(errors.groups)]
    groups = dict(zip(pair["method"], pair["group"], strict=True))
    if len(groups) < 2:
        return []
    with_it, without = groups["lora_replay"], groups["lora"]
    after, before = (_forgotten(errors, choice.verdicts, x) for x in (with_it, without))
    (test_set, *_), metric = errors.measured
    what = BY_KEY[metric]
    cost = " against ".join(errors.text(x, test_set, metric, 1) for x in (with_it, without))
    line = (
        f"Replay with LoRA, {with_it} against {without}: {test_set} {what.label} {cost} {what.unit}"
    )
    if not before:
        return [f"{line}; forgetting was not measured (it needs checks.holdout_file)."]
    line += f", forgetting {after:.1f} against {before:.1f} times the foundation model's error."
    worse = errors.mean(with_it, test_set, metric) > errors.mean(without, test_set, metric)
    if worse and after > before * WORTH:
        line += " Replay costs accuracy and keeps little: with LoRA it does not pay here."
    return [line]


def _forgotten(errors: Errors, verdicts: Verdicts, group: str) -> float:
    """Return the mean forgetting over the seeds of a group, 0 where it was not measured."""
    members = sorted(point for point, x in errors.group_of.items() if x == group)
    found = [verdicts.get(point, {}).get("forgetting") for point in members]
    return float(np.mean([v.compared for v in found if v and v.compared is not None] or [0]))
