"""Which point is shipped, which LoRA point is the best, and what was refused."""

import pandas as pd

from lora.selection.table import LORA
from lora.selection.verdict import Verdict, ranking


def choose(
    table: pd.DataFrame,
    metric: str,
    verdicts: dict[str, dict[str, Verdict]],
    thorough: dict[str, dict],
) -> tuple[str, str | None, dict[str, list[Verdict]]]:
    """The point to ship, the best LoRA point, and what was refused: {point: failed verdicts}.

    Where there are thorough checks, only a point that had them can be chosen.
    """
    kept, refused = ranking(table, metric, verdicts)
    failed = {x: [v for v in verdicts[x].values() if not v.passed] for x in refused}
    candidates = [x for x in kept if not thorough or x in thorough] or kept or refused
    lora = set(table.loc[table["method"].isin(LORA), "point"])
    best_lora = [x for x in [*candidates, *kept, *refused] if x in lora]
    return candidates[0], best_lora[0] if best_lora else None, failed
