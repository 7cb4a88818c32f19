"""Say in words what won and by how much, what was refused, and how LoRA stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lora.catalogue.columns import BY_KEY, VALID
from lora.catalogue.endings import Ending
from lora.plan.points import FOUNDATION
from lora.report.comparison import Errors, compare
from lora.report.planes import best_of_axes, other_kinds
from lora.report.rivals import against, side
from lora.selection.choose import Choice
from lora.selection.table import BASELINES, of_all_data, trained

SHOWN = 6  # points that are named


@dataclass(frozen=True)
class Words:
    """What is said of a sweep, by what a reader asks.

    Attributes:
        model: What won and by how much, what was refused.
        improving: That trainings would have gained from more epochs, or gained nothing by theirs.
        failed: The trainings that failed.
        rivals: How LoRA stands against other methods.
        diverged: The trainings that diverged.
    """

    model: list[str]
    improving: list[str]
    failed: list[str]
    rivals: list[str]
    diverged: list[str]

    @classmethod
    def of(cls, errors: Errors, choice: Choice) -> "Words":
        """Put into words what was found.

        Args:
            errors: The errors of every group.
            choice: The decision.
        """
        chosen = errors.group_of[choice.point]
        model = [*_no_better(errors, chosen), _chosen(errors, choice)]
        if choice.point in errors.unmoved()[0]:
            model.append("It was never better than before its first epoch: this is its start.")
        model += _refusals(choice)
        if others := _others(errors, choice):
            model.append(_next(errors, chosen, others[0]))
        model += best_of_axes(errors)
        rivals, diverged = _rivals(errors, choice), []
        if choice.lora is not None:
            diverged = _diverged(errors.table)
        improving = [*_improving(errors), *_unmoved(errors)]
        return cls(model, improving, _failures(errors.table), rivals, diverged)

    def in_order(self, forgotten: Sequence[str]) -> list[str]:
        """Return all sentences, those on forgetting (`lora.report.rivals`) among them."""
        before = [*self.model, *self.improving, *self.failed, *forgotten]
        return [*before, *self.rivals, *self.diverged]


def _rivals(errors: Errors, choice: Choice) -> list[str]:
    """Return how LoRA stands against the foundation model and the other methods."""
    if choice.lora is None:
        return []
    chosen, lora = errors.group_of[choice.point], errors.group_of[choice.lora]
    name = side(errors, lora)
    lines = [f"The best {name} point by the same rule is {choice.lora}."] if lora != chosen else []
    for kind in (FOUNDATION.kind, *other_kinds(errors, lora), *BASELINES):
        lines += against(errors, lora, kind)
    if errors.of(chosen, VALID, errors.metric).n == 1:
        lines.append("With one seed, differences of a few percent are noise.")
    return lines


def _no_better(errors: Errors, chosen: str) -> list[str]:
    """Say that no training gained anything on the foundation model, where that is so."""
    if FOUNDATION.group not in errors.groups:
        return []
    found = {x: errors.of(x, VALID, errors.metric) for x in errors.groups}
    base, best = found[FOUNDATION.group], found[chosen]
    if best.mean < base.mean:
        return []
    heading = BY_KEY[errors.metric].heading
    against = f"{heading} on the validation set {base.text(1)} against {best.text(1)}"
    if any(x.mean < base.mean for x in found.values()):
        return [
            f"The chosen model is no better than the foundation model: {against}. Trainings that "
            "are were refused by the checks."
        ]
    return [
        f"No training is better than the foundation model: {against}. Look at the labels, the "
        "learning rate and the number of epochs before you use any of these models."
    ]


def _chosen(errors: Errors, choice: Choice) -> str:
    """Return the rule by which the point was chosen, and its error."""
    group = errors.group_of[choice.point]
    error = errors.of(group, VALID, errors.metric)
    lost = any(errors.group_of[x] == group for x in choice.refused if x != choice.point)
    best = "the best that passes all checks" if lost else "the best"
    seeds = f", the mean of {error.n} seeds, of which {choice.point} is {best}"
    rule = (
        f"the lowest {BY_KEY[errors.metric].heading} on the validation set, {error.text(1)}"
        f"{seeds if error.n > 1 else ''}"
    )
    made = f" ({errors.origins[choice.point]})" if choice.point in errors.origins else ""
    if choice.point in choice.refused:
        return f"No point passes all checks. Of all points, {choice.point}{made} has {rule}."
    if choice.put_off:
        return (
            f"Chosen: {choice.point}{made}. It has {rule}, of the points that were not put to the "
            f"thorough checks: these refused all that were, {', '.join(choice.put_off)}. Raise "
            "checks.winners to put more of them to these checks."
        )
    if choice.refused:
        return f"Chosen: {choice.point}{made}. Of the points that pass all checks, it has {rule}."
    return f"Chosen: {choice.point}{made}. It has {rule}."


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
    whole = trained(of_all_data(errors.table))
    left = {*whole.loc[~whole["point"].isin(refused), "group"]} - {errors.group_of[choice.point]}
    return [group for group in errors.groups if group in left]


def _next(errors: Errors, first: str, second: str) -> str:
    best, value = (errors.of(x, VALID, errors.metric) for x in (first, second))
    table = errors.table
    stopped = table.loc[table["ended_by"] == Ending.STOPPED, "group"].nunique()
    verdict = compare(best, value, max(1, len(errors.groups) + stopped - 1))
    close = errors.close(first, second, VALID, errors.metric)
    remark = {
        "equal": "; the difference is within the spread over seeds",
        "better": "; the difference is larger than the spread over seeds explains",
        "": "; with one seed, differences this small are noise" if close else "",
    }
    return f"The next best is {second} with {value.text(1)}{remark.get(verdict, '')}."


def _improving(errors: Errors) -> list[str]:
    """Say how many trainings would have gained from more epochs."""
    still, of = errors.improving(*errors.groups)
    if not still:
        return []
    return [
        f"{still} of {of} trainings were still improving in their last epoch: raise "
        "train.max_num_epochs."
    ]


def _unmoved(errors: Errors) -> list[str]:
    """Say which trainings gained nothing."""
    points, of = errors.unmoved()
    if not points:
        return []
    more = f" and {len(points) - SHOWN} more" if len(points) > SHOWN else ""
    return [
        f"{len(points)} of {of} trainings were never better on the validation set than before "
        f"their first epoch, which is kept: {', '.join(points[:SHOWN])}{more}. Look at the "
        "learning rate and the number of epochs."
    ]
