"""Judge points by the limits of the checks, and put them in the order of choice.

A limit holds for a number itself, for its ratio to the foundation model's number, or for its
excess over it, as the check says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lora.catalogue.columns import VALID
from lora.plan.points import FOUNDATION
from lora.selection.table import by_group, of_all_data, trained


@dataclass(frozen=True)
class Verdict:
    """One check of one point.

    check:    its name
    value:    what was measured
    unit:     of the value
    compared: the number that is held against the limit; None where that takes the foundation
              model's number and there is none
    limit:    None where it is lifted
    compare:  absolute, ratio or excess
    """

    check: str
    value: float
    unit: str
    compared: float | None
    limit: float | None
    compare: str

    @property
    def passed(self) -> bool:
        """Return True where the limit is kept, lifted or cannot be applied."""
        return self.limit is None or self.compared is None or self.compared <= self.limit

    def text(self) -> str:
        """Return the verdict in words.

        For example: forgetting 5.6 times the foundation model's (507 meV/Å), limit 3.
        """
        if self.compared is None:
            return f"{self.check} {self.value:.3g} {self.unit}"
        value = f"{self.value:.3g} {self.unit}"
        compared = {
            "absolute": value,
            "ratio": f"{self.compared:.3g} times the foundation model's ({value})",
            "excess": f"{value}, {self.compared:+.3g} against the foundation model",
        }[self.compare]
        limit = f", limit {self.limit:g}" if self.limit is not None else ""
        return f"{self.check} {compared}{limit}"


def judge(
    checks: Mapping[str, dict[str, Any]], limits: Mapping[str, float | None]
) -> dict[str, dict[str, Verdict]]:
    """Return a verdict on each check of each point; the foundation model is only measured.

    Args:
        checks: {point: {check: finding}}.
        limits: {check: limit} in place of the checks' own; None lifts a limit.
    """
    base = checks.get(FOUNDATION.name, {})
    return {
        point: {
            name: _verdict(name, finding, base.get(name), limits.get(name, finding["limit"]))
            for name, finding in findings.items()
        }
        for point, findings in checks.items()
        if point != FOUNDATION.name
    }


def _verdict(
    name: str, finding: dict[str, Any], base: dict[str, Any] | None, limit: float | None
) -> Verdict:
    value, compare = float(finding["value"]), finding["compare"]
    compared: float | None = value
    if compare != "absolute":
        compared = None
        if base is not None:
            compared = value - base["value"]
        if base is not None and compare == "ratio":
            compared = value / base["value"] if base["value"] else float("inf")
    return Verdict(name, value, finding["unit"], compared, limit, compare)


def ranking(
    table: pd.DataFrame, metric: str, verdicts: Mapping[str, dict[str, Verdict]]
) -> tuple[list[str], list[str]]:
    """Return points in the order of choice.

    Groups come by their mean over seeds of the metric on the validation set, and in each its seeds
    by the same, so that a group goes by its best seed that keeps the limits.  Test sets have no
    say.  Trainings that failed are left out, and so is the foundation model, which is measured to
    compare with and is never a candidate.

    Args:
        table: The table of points.
        metric: The error that is compared; the lowest comes first.
        verdicts: The verdicts of the checks.

    Returns:
        The points that keep every limit, and those that do not.
    """
    known = trained(table[(table["test_set"] == VALID) & table[metric].notna()])
    valid = of_all_data(known)
    means = by_group(valid, [metric])[(metric, "mean")].droplevel("test_set").sort_values()
    kept: list[str] = []
    refused: list[str] = []
    for group in means.index:
        members = valid[valid["group"] == group].sort_values(metric)
        for point in members["point"]:
            passed = all(verdict.passed for verdict in verdicts.get(point, {}).values())
            (kept if passed else refused).append(str(point))
    return kept, refused


def best_of_each(points: Iterable[str], group_of: Mapping[str, str]) -> list[str]:
    """Return the first point of each group, in their order.

    Args:
        points: The names of points.
        group_of: {point: its group}.
    """
    firsts: dict[str, str] = {}
    for point in points:
        firsts.setdefault(group_of[point], point)
    return list(firsts.values())
