"""Write what every check found, as a page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lora.files.sealed import write_text
from lora.report.page import page, paragraph, rows_of
from lora.selection.choose import Verdicts
from lora.selection.verdict import Verdict

ABOUT_RATES = (
    "In brackets: what the rate is below with 95 % confidence, by the number of random structures "
    "that were tried (Clopper and Pearson). Holes that are rarer may not have been seen."
)


def write_checks(
    checks: Mapping[str, dict[str, Any]], verdicts: Verdicts, path: Path
) -> list[Path]:
    """Write what every check found, a row a point, and what each means.

    Args:
        checks: {point: {check: finding}}.
        verdicts: Those on every point but the foundation model.
        path: The page; the numbers stand as csv beside it.

    Returns:
        Both files.
    """
    rows = []
    for point, findings in checks.items():
        for name, one in findings.items():
            verdict = verdicts.get(point, {}).get(name)
            row = {"point": point, "check": name, "value": one["value"], "unit": one["unit"]}
            row["passed"] = verdict.passed if verdict else None
            row["compared"] = verdict.compared if verdict else None
            row["below"] = _below(one)
            rows.append(row)
    columns = ["point", "check", "value", "unit", "passed", "compared", "below"]
    numbers = path.with_suffix(".csv")
    data = pd.DataFrame(rows, columns=columns)
    data.to_csv(numbers, index=False, float_format="%.6g")
    write_text(path, page("Checks", *_tables(checks, verdicts)))
    return [path, numbers]


def _tables(checks: Mapping[str, dict[str, Any]], verdicts: Verdicts) -> list[Any]:
    """Return the table of numbers and that of meanings."""
    known = {name: one for findings in checks.values() for name, one in findings.items()}
    if not known:
        return [paragraph("The config asks for no checks.")]
    numbers = {
        point: {
            f"{name}\n{one['unit']}": _cell(findings.get(name), verdicts.get(point, {}).get(name))
            for name, one in known.items()
        }
        for point, findings in checks.items()
        if findings
    }
    meanings = {
        name: {"meaning": one["meaning"], "limit": _limit(one), "source": one["source"]}
        for name, one in known.items()
    }
    tables = [rows_of(pd.DataFrame(numbers).T), rows_of(pd.DataFrame(meanings).T)]
    searched = any(_below(one) is not None for one in known.values())
    return [*tables, *([paragraph(ABOUT_RATES, note=True)] if searched else [])]


def about_holes(findings: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return what a search for holes could have seen; nothing where there was none.

    Args:
        findings: What the checks found of a point, {check: finding}.
    """
    detail = findings.get("holes", {}).get("detail", {})
    if "below" not in detail:  # not searched for, or by an older version
        return []
    return [
        f"Holes: {detail['fell']} of {detail['structures']} random structures fell into one: fewer "
        f"than {_rounded_up(detail['below'])} % of such structures do, with 95 % confidence."
    ]


def _below(one: dict[str, Any]) -> float | None:
    """Return what a rate is below with 95 % confidence, in the unit of the check."""
    below: float | None = one.get("detail", {}).get("below")
    return below


def _rounded_up(rate: float) -> str:
    """Return a bound in a digit after the point, which is no lower."""
    return f"{math.ceil(10 * rate) / 10:.1f}"


def _cell(one: dict[str, Any] | None, verdict: Verdict | None) -> str:
    """Return a number, marked where it is over its limit."""
    if one is None:
        return ""
    mark = "" if verdict is None or verdict.passed else " ✗"
    below = _below(one)
    rate = "" if below is None else f" (< {_rounded_up(below)})"
    return f"{one['value']:.3g}{rate}{mark}"


def _limit(one: dict[str, Any]) -> str:
    """Return the limit that a check has by itself."""
    return {
        "absolute": f"{one['limit']:g} {one['unit']}",
        "ratio": f"{one['limit']:g} times the foundation model's",
        "excess": f"{one['limit']:g} more than the foundation model's",
    }[str(one["compare"])]
