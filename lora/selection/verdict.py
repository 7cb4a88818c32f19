"""Which points keep the limits of the checks, and which of those is chosen.

A limit holds for a number itself, for its ratio to the foundation model's number, or for its
excess over it, as the check says.
"""

from dataclasses import dataclass

import pandas as pd

from lora.selection.table import by_setting, of_all_data, setting_of


@dataclass(frozen=True)
class Verdict:
    """One check of one point: the number that is compared, and its limit (None: lifted).

    Where the comparison needs the foundation model's number and there is none, compared is None.
    """

    check: str
    value: float
    unit: str
    compared: float | None
    limit: float | None
    compare: str
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.limit is None or self.compared is None or self.compared <= self.limit

    def said(self) -> str:
        """forgetting 5.6 times the foundation's (507 meV/Å), limit 3."""
        if self.compared is None:
            return f"{self.check} {self.value:.3g} {self.unit}"
        how = {
            "absolute": f"{self.value:.3g} {self.unit}",
            "ratio": f"{self.compared:.3g} times the foundation's ({self.value:.3g} {self.unit})",
            "excess": f"{self.value:.3g} {self.unit}, {self.compared:+.3g} against the foundation",
        }[self.compare]
        limit = f", limit {self.limit:g}" if self.limit is not None else ""
        return f"{self.check} {how}{limit}"


def gather(tiers: list[dict[str, dict]], points: list[str]) -> dict[str, dict[str, dict]]:
    """What the checks of all tiers found of each point: {point: {check: finding}}."""
    return {
        point: {
            name: one
            for tier in tiers
            for name, one in tier.get(point, {}).get("checks", {}).items()
        }
        for point in points
    }


def judge(
    found: dict[str, dict[str, dict]], limits: dict[str, float | None]
) -> dict[str, dict[str, Verdict]]:
    """A verdict of each check of each point; the foundation model is measured, not judged."""
    base = found.get("foundation", {})
    return {
        point: {
            name: _verdict(name, one, base.get(name), limits.get(name, one["limit"]))
            for name, one in checks.items()
        }
        for point, checks in found.items()
        if point != "foundation"
    }


def _verdict(name: str, one: dict, base: dict | None, limit: float | None) -> Verdict:
    value, compare = one["value"], one["compare"]
    compared: float | None = value
    if compare != "absolute":
        compared = None
        if base is not None:
            compared = value - base["value"]
        if base is not None and compare == "ratio":
            compared = value / base["value"] if base["value"] else float("inf")
    return Verdict(name, value, one["unit"], compared, limit, compare)


def ranking(
    table: pd.DataFrame, metric: str, verdicts: dict[str, dict[str, Verdict]]
) -> tuple[list[str], list[str]]:
    """Points in the order of choice: those that keep every limit, and those that do not.

    Settings by their mean over seeds of `metric` on the validation set, and in each its seeds by
    the same; a setting goes by its best seed that keeps the limits.  Test sets have no say, and
    trainings that failed are not there.
    """
    valid = of_all_data(table[(table["test_set"] == "valid") & table[metric].notna()])
    means = by_setting(valid, [metric])[(metric, "mean")].droplevel("test_set").sort_values()
    kept: list[str] = []
    refused: list[str] = []
    for setting in means.index:
        members = valid[valid["point"].map(setting_of) == setting].sort_values(metric)
        for point in members["point"]:
            fine = all(verdict.passed for verdict in verdicts.get(point, {}).values())
            (kept if fine else refused).append(str(point))
    return kept, refused


def best_of_each(points: list[str]) -> list[str]:
    """The first point of each setting, in their order."""
    firsts: dict[str, str] = {}
    for point in points:
        firsts.setdefault(setting_of(point), point)
    return list(firsts.values())
