"""Step `report`: write one page of the report, or figures that belong together.

report/*, report/pages/{page}.json
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from lora.files.sealed import Receipt
from lora.plan.sweep import Sweep


def report(sweep: Sweep, page: str, receipt: Receipt) -> None:
    """Write one page; the module of its name in `lora.report` makes it.

    The module is imported by its name, so that a page is not made anew for the code of another.

    Args:
        sweep: The sweep.
        page: The name: summary, tables, figures, dashboard, committee, rank_curve, data_size,
            trust_page or card_page.
        receipt: Where to write the names of the files, with their digests.

    Raises:
        UserError: A file of an earlier step is missing or damaged.
    """
    write: Callable[[Sweep], list[Path]] = import_module(f"lora.report.{page}").write
    sweep.layout.table.parent.mkdir(parents=True, exist_ok=True)
    files = write(sweep)
    folder = sweep.layout.table.parent
    receipt.write({"files": [str(path.relative_to(folder)) for path in files]}, files)
