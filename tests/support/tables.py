"""Tables of points with errors that are given, a group by its mean and spread over seeds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lora.catalogue.columns import ROWS
from lora.plan.points import Protocol
from lora.selection.choose import Verdicts
from lora.selection.verdict import judge

KINDS = {"forgetting": (10.0, "ratio"), "holes": (0.0, "excess"), "nve": (1.0, "absolute")}


def seeds_of(groups: Mapping[str, tuple[float, float]], n: int) -> pd.DataFrame:
    """Return a table of n seeds a group on two sets.

    Args:
        groups: {group: (mean, spread) of the force RMSE}; _replay, _keep, _f0.5 mean what they say,
            and what comes first is the kind.
        n: The number of seeds; the foundation model has none.
    """
    rows = []
    for group, (mean, spread) in groups.items():
        kind, _, marks = group.partition("_")
        for i, step in enumerate(np.linspace(-1, 1, n) if n > 1 else [0.0]):
            row: dict[str, object] = dict.fromkeys([x.key for x in ROWS if not x.error])
            row |= {"point": f"{group}_s{i}", "group": group, "ended_by": "patience"}
            if kind == "foundation":
                row |= {"point": group, "ended_by": None}
            protocol = Protocol("replay" in marks, "keep" in marks)
            row["method"] = f"{kind}{protocol.mark}"
            row["plain"] = group.replace(protocol.mark, "")
            row["family"] = group.replace("_f0.5", "")
            row |= {"rank": 4, "alpha": 8.0, "trainable_parameters": 10, "seed": i}
            row["reason"] = None
            row["train_fraction"] = 0.5 if "_f0.5" in group else 1.0
            for test_set, more in {"valid": 0.0, "test": 5.0}.items():
                error = mean + more + spread * step
                errors = {"rmse_f_mev_per_a": error, "rmse_e_mev_per_atom": error / 50}
                rows.append(row | {"test_set": test_set} | errors)
    return pd.DataFrame(rows)


def verdicts_of(
    values: Mapping[str, Mapping[str, float]], limits: Mapping[str, float | None] | None = None
) -> Verdicts:
    """Return verdicts on values of checks.

    Args:
        values: {point: {check: value}}.
        limits: {check: limit} in place of those of `KINDS`.
    """
    checks = {
        point: {name: _finding(value, *KINDS[name]) for name, value in found.items()}
        for point, found in values.items()
    }
    return judge(checks, limits or {})


def _finding(value: float, limit: float, compare: str) -> dict[str, object]:
    return {"value": value, "limit": limit, "compare": compare, "unit": "u"}
