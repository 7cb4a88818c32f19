"""Step `shortlist`: name the points for the long checks, the best so far.

check/shortlist.json
"""

from lora.files.sealed import Receipt
from lora.plan.points import FOUNDATION
from lora.plan.sweep import Sweep
from lora.selection.results import read_results
from lora.selection.table import make_table
from lora.selection.verdict import best_of_each, judge, ranking


def shortlist(sweep: Sweep, receipt: Receipt) -> None:
    """Write the names and models of the best point of each of the best groups.

    The foundation model is beside them, as checks compare with it.

    Args:
        sweep: The sweep.
        receipt: Where to write {"models": {point: file}}.

    Raises:
        UserError: A receipt of an earlier step is missing or damaged.
    """
    config, layout = sweep.config, sweep.layout
    results = read_results(sweep, "shortlist")
    table = make_table(sweep.points, results)
    verdicts = judge(results.checks, config.select.limits.given())
    kept, refused = ranking(table, config.select.metric, verdicts)
    groups = {point.name: point.group for point in sweep.points.values()}
    chosen = best_of_each(kept or refused, groups)[: config.checks.winners]
    chosen += [FOUNDATION.name] if FOUNDATION.name in sweep.points else []
    receipt.write({"models": {point: str(layout.model(point)) for point in chosen}})
