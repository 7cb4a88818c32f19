"""Write how labels go with the foundation model, and what the audit found in them, as a page."""

from pathlib import Path
from typing import Any

import pandas as pd

from lora.files.sealed import read_json, write_text
from lora.plan.sweep import Sweep
from lora.report.audit_table import COLUMNS, cells_of
from lora.report.page import page, paragraph, rows_of

LEADS = {"warn": "Warning:", "accepted": "Accepted:", "note": ""}
NOTE = (
    "Slope and correlation of labels with the foundation model's own predictions; of energies "
    "without those of free atoms, of stresses without their mean. The offset is the mean of label "
    "minus prediction, in eV/atom, eV/Å and eV/Å^3."
)


def write(sweep: Sweep) -> list[Path]:
    """Write audit.html, and the numbers beside it as audit.csv.

    Args:
        sweep: The sweep, with its audit.

    Returns:
        Both files.
    """
    result = read_json(sweep.layout.receipt("audit"))
    path = sweep.layout.report("audit.html")
    table = pd.DataFrame(cells_of(result), columns=list(COLUMNS))
    table.to_csv(path.with_suffix(".csv"), index=False)
    parts = [paragraph(NOTE, note=True), rows_of(table.set_index("file"))]
    parts += [
        paragraph(row["text"], LEADS[level])
        for level in LEADS
        for row in result["findings"]
        if row["level"] == level
    ]
    write_text(path, page("Labels against the foundation model", *parts))
    return [path, path.with_suffix(".csv")]


def warnings_of(result: dict[str, Any]) -> list[str]:
    """Return what the audit warned of, and what the user accepted, for the report's first page.

    Args:
        result: What the step audit wrote.
    """
    return [
        f"{LEADS[row['level']]} {row['text']}."
        for row in result["findings"]
        if row["level"] in ("warn", "accepted")
    ]
