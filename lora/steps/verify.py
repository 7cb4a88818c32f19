"""Step `verify`: check every file of a sweep against the seals in it.

Nothing is written.
"""

from pathlib import Path

from lora.errors import UserError, UserErrors
from lora.files.sealed import read_json
from lora.files.seals import Findings, check_all
from lora.plan.identity import is_open, unfinished
from lora.plan.layout import Layout
from lora.plan.words import few
from lora.tracking.content import content_of

SHOWN = 5  # unknown files that are named


def verify(results: str | Path, store: bool = True) -> list[str]:
    """Check the files of a sweep: models, adapters, data, tables, pages, MLflow's store.

    Args:
        results: The results folder.
        store: Whether another content of MLflow's store is damage; else it is one of the lines.

    Returns:
        Lines: how many files are as they were made, what is not kept, what is not of the sweep.

    Raises:
        UserError: No sweep has begun there, or files were damaged, edited or lost: a line each.
    """
    layout = Layout(Path(results))
    if not layout.plan.is_file():
        raise UserError(f"verify: {layout.plan} is missing; no sweep has begun there")
    found = check_all(layout.results, lambda path: is_open(layout, path))
    models = {x for x in found.lost if x.parent.parent == layout.results / "merge"}
    lost = [x for x in found.lost if x not in models]
    writing = unfinished(layout, found.damaged)
    wrong = [line for path, line in found.damaged.items() if path not in writing]
    changed = _store(layout)
    wrong += changed if store else []
    wrong += [f"{x} is missing, though it was made. Run snakemake again" for x in lost]
    if wrong:
        raise UserErrors(wrong)
    return [*_lines(layout, found, len(models), len(writing)), *changed]


def _store(layout: Layout) -> list[str]:
    """Return what is wrong with MLflow's store in the results folder; [] without one."""
    receipt = layout.receipt("track")
    try:
        tracked = read_json(receipt) if receipt.is_file() else {}
    except UserError:
        return []  # named among the damaged ones
    logged, runs = tracked.get("logged"), tracked.get("runs", {})
    if not logged or content_of(layout.database, runs.values()) == logged:
        return []
    return [
        f"{layout.database} does not hold the runs that were tracked (changed in MLflow's UI, or "
        f"damaged). Delete {layout.database.parent}, then run snakemake again."
    ]


def _lines(layout: Layout, found: Findings, models: int, writing: int) -> list[str]:
    lines = [f"{layout.results}: {found.sealed} files are as they were made"]
    if writing:
        lines.append(f"{writing} files are being made anew, or their job was ended; run snakemake")
    if models:
        lines.append(f"{models} merged models are not kept; see keep_models")
    if found.unknown:
        named = few((x.relative_to(layout.results) for x in found.unknown), SHOWN)
        lines.append(f"{len(found.unknown)} files are not of the sweep: {named}")
    return lines
