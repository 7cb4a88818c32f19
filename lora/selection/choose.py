"""Decide which point is shipped, which LoRA point is the best, and what was refused."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from lora.files.sealed import read_json
from lora.plan.sweep import Sweep
from lora.selection.table import LORA
from lora.selection.verdict import Verdict, ranking

Verdicts = dict[str, dict[str, Verdict]]  # {point: {check: verdict}}


@dataclass(frozen=True)
class Choice:
    """The decision.

    point:    the point to ship
    lora:     the best LoRA point by the same rule, None where there is none
    metric:   the error on the validation set that was compared
    refused:  points over a limit of the checks, the lower errors first
    verdicts: on every point that was checked, but the foundation model
    put_off:  where the long checks refused all points that had them, those points; the point to
              ship is then the best of the others
    """

    point: str
    lora: str | None
    metric: str
    refused: list[str] = field(default_factory=list)
    verdicts: Verdicts = field(default_factory=dict)
    put_off: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> Verdicts:
        """Return the verdicts that points were refused for, {point: {check: verdict}}."""
        return {
            point: {name: x for name, x in self.verdicts[point].items() if not x.passed}
            for point in self.refused
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON; `from_dict` gives the same one back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Choice":
        """Return a decision from JSON."""
        verdicts = {
            point: {name: Verdict(**x) for name, x in found.items()}
            for point, found in values.get("verdicts", {}).items()
        }
        lists = (values.get("refused", []), verdicts, values.get("put_off", []))
        return cls(values["point"], values["lora"], values["metric"], *lists)


def choose(
    table: pd.DataFrame, metric: str, verdicts: Verdicts, thorough: Collection[str] = ()
) -> Choice:
    """Decide.

    Where there are long checks, only a point that had them can be chosen, unless they refused all
    of these: then the best of the others, without them, is better than one that was refused.

    Args:
        table: The table of points.
        metric: The error that is compared.
        verdicts: The verdicts of the checks.
        thorough: The points that had the long checks.
    """
    kept, refused = ranking(table, metric, verdicts)
    sound = [x for x in kept if not thorough or x in thorough]
    put_off = [x for x in refused if x in thorough] if kept and not sound else []
    candidates = sound or kept or refused
    lora = set(table.loc[table["method"].isin(LORA), "point"])
    best_lora = [x for x in [*candidates, *kept, *refused] if x in lora]
    best = best_lora[0] if best_lora else None
    return Choice(candidates[0], best, metric, refused, verdicts, put_off)


def read_choice(sweep: Sweep) -> Choice:
    """Read the decision of a sweep.

    Raises:
        UserError: It is missing or damaged.
    """
    return Choice.from_dict(read_json(sweep.layout.receipt("choose")))
