"""What there is to say of a foundation model: a table in the terminal, sentences in the report."""

from typing import Any

from rich.table import Table

from lora.catalogue.foundations import NOT_KNOWN, licence_sentence
from lora.files.sealed import read_json
from lora.plan.layout import Layout


def table_of(found: dict[str, Any]) -> Table:
    """Return what a foundation model is, a line each.

    Args:
        found: The content of foundation.json.
    """
    table = Table(title=f"foundation model {found['name']}", title_justify="left", box=None)
    table.add_column("")
    table.add_column("", overflow="fold")
    takes = [name.replace("_", " ") for name, there in found["embeddings"].items() if there]
    rows = {
        "class": f"{found['class']}, {found['parameters']:,} parameters, {found['dtype']}",
        "elements": f"{len(found['elements'])}: {' '.join(found['elements'])}",
        "r_max": f"{found['r_max']:g} Å",
        "heads": ", ".join(found["heads"]),
        "head": found["head"] or "choose one with --head",
        "interactions": ", ".join(found["blocks"]["interactions"]),
        "readouts": ", ".join(found["blocks"]["readouts"]),
        "takes": ", ".join(["structures", *takes]),
        "licence": found["licence"],
        "paper": found["paper"] or NOT_KNOWN,
        "fingerprint": found["fingerprint"] or "of a chosen head only",
        "sha256": found["sha256"],
        "from": found["source"],
    }
    if found["repaired"]:
        rows["mended"] = "; ".join(found["repaired"])
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def foundation_sentences(layout: Layout) -> list[str]:
    """Return what to mind of the foundation model of a sweep: its licence, and what was mended.

    Args:
        layout: The results folder.
    """
    receipt = layout.receipt("foundation")
    if not receipt.is_file():  # results of before 0.2
        return []
    found = read_json(receipt)
    said = [licence_sentence(found["licence"])] if licence_sentence(found["licence"]) else []
    said += [f"the file of the foundation model was mended: {x}" for x in found["repaired"]]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said]
