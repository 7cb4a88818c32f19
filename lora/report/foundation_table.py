"""What there is to say of a foundation model: a table in the terminal, sentences in the report."""

from collections.abc import Mapping, Sequence
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
    if found["chain"]:
        rows["made by"] = chain_text(found["chain"])
    if found["repaired"]:
        rows["mended"] = "; ".join(found["repaired"])
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def chain_text(links: Sequence[Mapping[str, Any]]) -> str:
    """Return the sweeps that made a model in a line: base, data, point, data, point, ...

    Args:
        links: The sweeps, the first one first, as `lora.export.chain` has them.
    """
    base = links[0]["base"]
    parts = [_known(base.get("name"), base.get("fingerprint"), "a base that is not known")]
    for link in links:
        data = _known(link["data"].get("file"), link["data"].get("digest"), "data not known")
        parts.append(f"{_known(link['point'], link['fingerprint'])} trained on {data}")
    return ", then ".join(parts)


def _known(name: str | None, digest: str | None, instead: str = "") -> str:
    """Return a name with the digest of what it names, as far as they are known."""
    return f"{name or instead}{f' ({digest})' if digest else ''}"


def foundation_sentences(layout: Layout) -> list[str]:
    """Return what there is to say of a sweep's foundation model: chain, licence, mending.

    Args:
        layout: The results folder.
    """
    receipt = layout.receipt("foundation")
    if not receipt.is_file():  # results of before 0.2
        return []
    found = read_json(receipt)
    said = [licence_sentence(found["licence"])] if licence_sentence(found["licence"]) else []
    if chain := found.get("chain"):
        said.insert(0, f"the foundation model was made by earlier sweeps: {chain_text(chain)}")
    said += [f"the file of the foundation model was mended: {x}" for x in found["repaired"]]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in said]
