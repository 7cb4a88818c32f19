"""Write the card beside an exported model: what it is, what it was made from, what to mind.

card.json
"""

from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols

from lora.catalogue.foundations import MACE_PAPER, known_foundation
from lora.export.engines.base import name_of
from lora.files.provenance import PACKAGES, version_of
from lora.files.sealed import digest, read_json
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
        base: The licence of the foundation model; None means what the catalogue knows.
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
        "elements": known,
        "E0s": get_e0s(model),
        "fingerprint": fingerprint(model),
        "versions": {name: version_of(name) for name in PACKAGES},
    }
    card |= _origin(layout, point) if layout else {"fine_tuned_elements": None}
    base = card.get("base", {})
    licence, paper = licence_of(base.get("name"))
    card["base"] = base | {"licence": licences.base or licence, "cite": paper}
    card["data"] = card.get("data", {}) | {"licence": licences.data}
    card["cite"] = [MACE_PAPER, *([paper] if paper else []), "mace-lora-sweep: CITATION.cff"]
    card["warnings"] = warnings_of(card)
    return card


def _origin(layout: Layout, point: str) -> dict[str, Any]:
    """Return what the files of a sweep say of the origin of a point."""
    merged = read_json(layout.model(point).with_name("merge.json"))
    config = Sweep.load(layout.plan).config
    evaluated = layout.errors(point)
    sets = read_json(evaluated)["sets"] if evaluated.is_file() else {}
    trained = layout.training(point) / "train.json"
    train = read_json(trained) if trained.is_file() else {}
    folders = (layout.training(point), layout.cut(point))
    adapters = [folder / "adapter/adapter.safetensors" for folder in folders]
    weights = next((path for path in adapters if path.is_file()), None)
    settings = train.get("settings", {})
    told = ("method", "rank", "alpha", "scaling", "replay", "seed", "lr")
    return {
        "base": {
            "name": config.foundation.model,
            "head": config.foundation.head,
            "fingerprint": train.get("base_fingerprint"),
        },
        "data": {"file": config.data.file, "digest": train.get("data_digest")},
        "adapter": {"digest": digest(weights) if weights else None},
        "merged_dtype": merged["dtype"],
        "merged_fingerprint": merged["fingerprint"],
        "fine_tuned_elements": merged["fine_tuned_elements"],
        "settings": {k: settings[k] for k in told if k in settings},
        "accepted": _accepted(layout),
        "errors": {
            name: {k: v for k, v in found.items() if isinstance(v, float)}
            for name, found in sets.items()
        },
    }


def _accepted(layout: Layout) -> list[str]:
    """Return what the audit found in the data and the user went on with."""
    receipt = layout.receipt("audit")
    rows = read_json(receipt)["findings"] if receipt.is_file() else []
    return [row["text"] for row in rows if row["level"] == "accepted"]


def licence_of(base: str | None) -> tuple[str | None, str | None]:
    """Return licence and paper of a foundation model; None for what is not known.

    Args:
        base: Its name, or its file.
    """
    row = known_foundation(base)
    return (row.licence, row.paper) if row else (None, None)


def warnings_of(card: dict[str, Any]) -> list[str]:
    """Return what to mind before one uses the model, one line each.

    Args:
        card: The card, without its warnings.
    """
    found = []
    tuned = card["fine_tuned_elements"]
    if tuned is not None and (others := [x for x in card["elements"] if x not in tuned]):
        shown = " ".join(others[:10]) + (" ..." if len(others) > 10 else "")
        found.append(
            f"never fine-tuned: {shown}; their energies are of another level of theory than those "
            f"of {' '.join(tuned) or 'no element'}"
        )
    found += [f"accepted in the data: {text}" for text in card.get("accepted", [])]
    licence = card["base"]["licence"]
    if licence is None:
        found.append("the licence of the base is not known here; look it up before you publish")
    elif "no commercial" in licence or "NC" in licence:
        found.append(f"licence of the base: {licence}; it holds for this model, too")
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


def untuned(card: dict[str, Any], symbols: set[str]) -> list[str]:
    """Return the elements of some structures that the model was never fine-tuned on, sorted.

    Args:
        card: The card of the model.
        symbols: The chemical symbols of the structures.
    """
    tuned = card["fine_tuned_elements"]
    return [] if tuned is None else sorted(symbols - set(tuned))
