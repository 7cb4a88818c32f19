"""Step `choose`: make the table of points, and decide which of them is shipped.

report/sweep.csv, report/best.json
"""

from lora.catalogue.columns import VALID
from lora.catalogue.endings import NO_MODEL, Ending
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.plan.sweep import Sweep
from lora.selection.choose import choose as decide
from lora.selection.results import read_results
from lora.selection.table import make_table, trained, write_table
from lora.selection.verdict import judge


def choose(sweep: Sweep, receipt: Receipt) -> None:
    """Write the table of points and the decision.

    Args:
        sweep: The sweep.
        receipt: Where to write the decision: point, lora, metric, refused, verdicts and model, the
            file of the chosen model.

    Raises:
        UserError: Every training failed, or a receipt of an earlier step is missing or damaged.
    """
    config, layout = sweep.config, sweep.layout
    results = read_results(sweep, "choose")
    table = make_table(sweep.points, results, config.pack.gpus)
    write_table(table, layout.table)
    metric = config.select.metric
    candidates = trained(table[table["test_set"] == VALID])
    if candidates["ended_by"].isin(NO_MODEL).all():
        failed = candidates[candidates["ended_by"] == Ending.FAILED]
        raise UserError(f"every training failed: {failed['reason'].iloc[0]}")
    if candidates[metric].isna().all():
        raise UserError(
            f"select.metric: the validation set has no labels for {metric}; add some, or choose by "
            "another error"
        )
    verdicts = judge(results.checks, config.select.limits.given())
    choice = decide(table, metric, verdicts, results.thorough)
    content = choice.to_dict() | {"model": str(layout.model(choice.point))}
    receipt.write(content, [layout.table])
