"""What the audit measured, as a table in the terminal."""

from typing import Any

from rich.table import Table

from lora.catalogue.findings import LABELS

COLUMNS = ("file", "label", "compared", "slope", "correlation", "offset")


def cells_of(result: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each file and label that was compared, {column: cell}.

    Args:
        result: What the step audit writes.
    """
    rows = []
    for path, file in result["files"].items():
        for label in LABELS:
            fit = file["fits"][label]
            if fit["n"]:
                numbers = (f"{fit[key]:.3g}" for key in COLUMNS[3:])
                cells = (path, label, str(file["compared"]), *numbers)
                rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def table_of(result: dict[str, Any]) -> Table:
    """Return slope, correlation and offset of the labels against the foundation model's.

    Args:
        result: What the step audit writes.
    """
    table = Table(title="labels against the foundation model's predictions")
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if i < 2 else "right")
    for row in cells_of(result):
        table.add_row(*row.values())
    return table
