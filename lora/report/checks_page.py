"""What every check found, as a page."""

from pathlib import Path

import pandas as pd

from lora.report.page import page, rows_of
from lora.selection.verdict import Verdict


def write_checks(
    checks: dict[str, dict[str, dict]], verdicts: dict[str, dict[str, Verdict]], path: str
) -> None:
    """What every check found, a row a point, and what each means; the numbers as csv beside it."""
    rows = [
        {"point": point, "check": name, "value": one["value"], "unit": one["unit"]}
        | {"passed": verdicts[point][name].passed if point in verdicts else None}
        | {"compared": verdicts[point][name].compared if point in verdicts else None}
        for point, found in checks.items()
        for name, one in found.items()
    ]
    columns = ["point", "check", "value", "unit", "passed", "compared"]
    data = pd.DataFrame(rows, columns=columns)
    data.to_csv(Path(path).with_suffix(".csv"), index=False, float_format="%.6g")
    facts = {name: one for found in checks.values() for name, one in found.items()}
    shown = {
        point: {
            f"{name}\n{one['unit']}": _cell(found.get(name), verdicts.get(point, {}).get(name))
            for name, one in facts.items()
        }
        for point, found in checks.items()
        if found
    }
    meanings = {
        name: {"meaning": one["meaning"], "limit": _limit(one), "source": one["source"]}
        for name, one in facts.items()
    }
    body = "<p>None was asked for.</p>"
    if shown:
        body = rows_of(pd.DataFrame(shown).T) + rows_of(pd.DataFrame(meanings).T)
    Path(path).write_text(page("Checks", body))


def _cell(one: dict | None, verdict: Verdict | None) -> str:
    """A number, marked where it is over its limit."""
    if one is None:
        return ""
    mark = "" if verdict is None or verdict.passed else " ✗"
    return f"{one['value']:.3g}{mark}"


def _limit(one: dict) -> str:
    """The limit that a check has by itself."""
    return {
        "absolute": f"{one['limit']:g} {one['unit']}",
        "ratio": f"{one['limit']:g} times the foundation's",
        "excess": f"{one['limit']:g} more than the foundation's",
    }[one["compare"]]
