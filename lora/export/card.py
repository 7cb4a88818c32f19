"""Write the card beside an exported model: what it is, what it was made from, what to mind.

card.json
"""

from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols

from lora.catalogue.foundations import MACE_PAPER, NOT_KNOWN, licence_sentence
from lora.export.chain import link_of
from lora.export.engines.base import name_of
from lora.files.provenance import PACKAGES, version_of
from lora.files.sealed import read_json
from lora.mace.describe import taken_by
from lora.mace.door import Untyped
from lora.mace.elements import elements, get_e0s
from lora.mace.foundation import fingerprint
from lora.plan.layout import Layout
from lora.plan.sweep import Sweep

COARSE = 1e-5  # eV/atom; energies that are rounded by more than this get a warning


@dataclass(frozen=True)
class Licences:
    """What the user says of licences.

    Attributes:
        base: The licence of the foundation model; None means that of the sweep.
        data: The licence of the data; None means that it is not known.
    """

    base: str | None = None
    data: str | None = None


def make_card(
    model: Untyped, point: str, layout: Layout | None, licences: Licences
) -> dict[str, Any]:
    """Return what is known of a model that is exported, and warnings.

    Args:
        model: The model, with one head, in the dtype of the export.
        point: The name of the point.
        layout: The results folder of its sweep; without one, only the model itself is described.
        licences: What the user says of licences.
    """
    dtype = next(model.parameters()).dtype
    known = [chemical_symbols[z] for z in elements(model)]
    card: dict[str, Any] = {
        "format": 1,
        "point": point,
        "class": type(model).__name__,
        "dtype": name_of(dtype),
        "layout": "e3nn",
        "head": str(next(iter(getattr(model, "heads", None) or ["Default"]))),
        "r_max": float(model.r_max),
        "takes": taken_by(model),
        "elements": known,
        "E0s": get_e0s(model),
        "fingerprint": fingerprint(model),
        "versions": {name: version_of(name) for name in PACKAGES},
    }
    card |= _origin(layout, point) if layout else {"fine_tuned_elements": None}
    base = {"licence": NOT_KNOWN, "cite": None} | card.get("base", {})
    card["base"] = base | ({"licence": licences.base} if licences.base else {})
    card["data"] = card.get("data", {}) | {"licence": licences.data or NOT_KNOWN}
    paper = [base["cite"]] if base["cite"] else []
    card["cite"] = [MACE_PAPER, *paper, "mace-lora-sweep: CITATION.cff"]
    card["warnings"] = warnings_of(card)
    return card


def _origin(layout: Layout, point: str) -> dict[str, Any]:
    """Return what the files of a sweep say of the origin of a point."""
    merged = read_json(layout.model(point).with_name("merge.json"))
    sweep = Sweep.load(layout.plan)
    evaluated = layout.errors(point)
    sets = read_json(evaluated)["sets"] if evaluated.is_file() else {}
    e0s, receipt = layout.receipt("e0s"), layout.receipt("foundation")
    before = read_json(receipt).get("chain", []) if receipt.is_file() else []
    return link_of(layout, sweep, point) | {
        "chain": before,
        "merged_dtype": merged["dtype"],
        "merged_fingerprint": merged["fingerprint"],
        "fine_tuned_elements": merged["fine_tuned_elements"],
        "origin": sweep.points[point].origin if point in sweep.points else "",
        "new_E0s": _new_e0s(read_json(e0s)) if e0s.is_file() else {},
        "accepted": _accepted(layout),
        "errors": {
            name: {k: v for k, v in found.items() if isinstance(v, float)}
            for name, found in sets.items()
        },
    }


def _new_e0s(found: dict[str, Any]) -> dict[str, Any]:
    """Return what e0s.json says of the origin of E0s, and what to mind of them."""
    told = ("method", "rank", "n_elements", "sources", "prior", "warnings")
    return {k: found[k] for k in told if k in found}


def _accepted(layout: Layout) -> list[str]:
    """Return what the audit found in the data and the user went on with."""
    receipt = layout.receipt("audit")
    rows = read_json(receipt)["findings"] if receipt.is_file() else []
    return [row["text"] for row in rows if row["level"] == "accepted"]


def warnings_of(card: dict[str, Any]) -> list[str]:
    """Return what to mind before one uses the model, one line each.

    Args:
        card: The card, without its warnings.
    """
    new = card.get("new_E0s", {})
    found = [*_other_levels(card), *(x.rstrip(".") for x in new.get("warnings", []))]
    if card.get("takes"):
        found.append(
            f"it takes {' and '.join(card['takes'])}; MACE's calculator in ASE reads "
            'atoms.info["charge"] and atoms.info["spin"] (2S+1), and takes 0 and 1 without them'
        )
    found += [f"accepted in the data: {text}" for text in card.get("accepted", [])]
    if sentence := licence_sentence(card["base"]["licence"]):
        found.append(sentence)
    found += [f"the file of the base was mended: {x}" for x in card["base"].get("repaired", [])]
    merged = card.get("merged_dtype")
    if merged == "float32" and card["dtype"] == "float64":
        found.append("merged in float32, so that float64 makes it slower, not more accurate")
    coarse = 2**-23 * max(abs(x) for x in card["E0s"].values())
    if card["dtype"] == "float32" and coarse > COARSE:
        found.append(
            f"in float32 total energies are rounded to about {1e3 * coarse:.1g} meV/atom, because "
            "the E0s are large; forces keep their precision"
        )
    return found


def _other_levels(card: dict[str, Any]) -> list[str]:
    """Return which elements have energies of another level of theory than the data's."""
    tuned = card["fine_tuned_elements"]
    if tuned is None:
        return []
    new = tuned or [*card.get("new_E0s", {}).get("sources", {})]
    earlier = [x for x in _tuned_earlier(card) if x not in new]
    others = [x for x in card["elements"] if x not in (*new, *earlier)]
    shown = " ".join(others[:10]) + (" ..." if len(others) > 10 else "")
    begin = "never fine-tuned" if tuned else "nothing was fine-tuned, and without new E0s are"
    end = "their energies are of another level of theory than those of"
    lines = [f"{begin}: {shown}; {end} {' '.join(new) or 'no element'}"] if others else []
    if earlier:
        lines.append(
            f"fine-tuned in an earlier sweep alone: {' '.join(earlier)}; their energies are of the "
            "level of theory of its data"
        )
    return lines


def _tuned_earlier(card: dict[str, Any]) -> list[str]:
    """Return the elements that sweeps before this one were fine-tuned on, sorted."""
    links = card.get("chain", [])
    return sorted({x for link in links for x in link["fine_tuned_elements"] or []})


def untuned(card: dict[str, Any], symbols: set[str]) -> list[str]:
    """Return the elements of some structures that the model was never fine-tuned on, sorted.

    Args:
        card: The card of the model.
        symbols: The chemical symbols of the structures.
    """
    tuned = card["fine_tuned_elements"]
    return [] if tuned is None else sorted(symbols - {*tuned, *_tuned_earlier(card)})
