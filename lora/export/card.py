"""The card beside an exported model: what it is, what it was made from, what to mind.

    card.json

Licences and papers are those that MACE's own code and papers state for the models it can fetch.
"""

from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from torch import nn

from lora.export.engines.base import name_of
from lora.files.provenance import PACKAGES, version_of
from lora.files.sealed import digest, read_json
from lora.mace.elements import elements, get_e0s
from lora.mace.foundation import fingerprint

MACE_PAPER = "MACE: Batatia et al., NeurIPS 2022, arXiv 2206.07697"
ASL = "ASL (Academic Software License): no commercial use"
# what a base is called, in small letters without marks, to its licence and paper; first match wins
BASES = [
    ("omat", ASL, "OMat24: arXiv 2410.12771; MACE-MP-0: arXiv 2401.00096"),
    ("matpes", ASL, "MatPES: arXiv 2503.04070; MACE-MP-0: arXiv 2401.00096"),
    ("omol", ASL, "OMol25: arXiv 2505.08762"),
    ("off", ASL, "MACE-OFF: arXiv 2312.15211"),
    ("mpa", "MIT", "MACE-MP-0: arXiv 2401.00096"),
    ("mace128l", "MIT", "MACE-MP-0: arXiv 2401.00096"),
    ("mptrj", "MIT", "MACE-MP-0: arXiv 2401.00096"),
    ("macemp", "MIT", "MACE-MP-0: arXiv 2401.00096"),
    ("agnesi", "MIT", "MACE-MP-0: arXiv 2401.00096"),
]
SHORT = ("small", "medium", "large")  # MACE-MP-0's, with or without a version like -0b2
COARSE = 1e-5  # eV/atom: energies known no better than this are worth a word


def make_card(
    model: nn.Module, point: str, results: Path | None, licences: dict[str, str | None]
) -> dict[str, Any]:
    """What is known of a model that is exported, and warnings.

    Args:
        model: with one head, in the dtype of the export
        results: of the sweep that it comes from; without, only the model itself is told of
        licences: {"base", "data"}: what the user says of them; None is not known
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
    card |= _origin(results, point) if results else {"fine_tuned_elements": None}
    base = card.get("base", {})
    licence, paper = licence_of(base.get("name"))
    card["base"] = base | {"licence": licences["base"] or licence, "cite": paper}
    card["data"] = card.get("data", {}) | {"licence": licences["data"]}
    card["cite"] = [MACE_PAPER, *([paper] if paper else []), "mace-lora-sweep: CITATION.cff"]
    card["warnings"] = warnings_of(card)
    return card


def _origin(results: Path, point: str) -> dict[str, Any]:
    """What the files of a sweep say about where a point comes from."""
    merged = read_json(results / "merge" / point / "merge.json")
    config = read_json(results / "config.json")
    evaluated = results / "evaluate" / f"{point}.json"
    sets = read_json(evaluated)["sets"] if evaluated.is_file() else {}
    trained = results / "train" / point / "train.json"
    train = read_json(trained) if trained.is_file() else {}
    weights = next(results.glob(f"t*/{point}/adapter/adapter.safetensors"), None)
    settings = train.get("settings", {})
    told = ("method", "rank", "alpha", "scaling", "replay", "seed", "lr")
    return {
        "base": {
            "name": config["foundation"]["model"],
            "head": config["foundation"]["head"],
            "fingerprint": train.get("base_fingerprint"),
        },
        "data": {"file": config["data"]["file"], "digest": train.get("data_digest")},
        "adapter": {"digest": digest(weights) if weights else None},
        "merged_dtype": merged["dtype"],
        "merged_fingerprint": merged["fingerprint"],
        "fine_tuned_elements": merged["fine_tuned_elements"],
        "settings": {k: settings[k] for k in told if k in settings},
        "errors": {
            name: {k: v for k, v in found.items() if isinstance(v, float)}
            for name, found in sets.items()
        },
    }


def licence_of(base: str | None) -> tuple[str | None, str | None]:
    """Licence and paper of a base by its name or file, (None, None) if it is not known."""
    if not base:
        return None, None
    name = "".join(c for c in Path(base).name.lower() if c.isalnum())
    for part, licence, paper in BASES:
        if part in name:
            return licence, paper
    if not Path(base).suffix and name.startswith(SHORT):
        return "MIT", "MACE-MP-0: arXiv 2401.00096"
    return None, None


def warnings_of(card: dict[str, Any]) -> list[str]:
    """What to mind before one uses the model."""
    said = []
    tuned = card["fine_tuned_elements"]
    if tuned is not None and (others := [x for x in card["elements"] if x not in tuned]):
        shown = " ".join(others[:10]) + (" ..." if len(others) > 10 else "")
        said.append(
            f"never fine-tuned: {shown}; their energies are of another level of theory than those "
            f"of {' '.join(tuned) or 'no element'}"
        )
    licence = card["base"]["licence"]
    if licence is None:
        said.append("the licence of the base is not known here: look it up before you publish")
    elif "no commercial" in licence or "NC" in licence:
        said.append(f"licence of the base: {licence}; it holds for this model, too")
    merged = card.get("merged_dtype")
    if merged == "float32" and card["dtype"] == "float64":
        said.append("merged in float32: float64 makes it slower, not more accurate")
    coarse = 2**-23 * max(abs(x) for x in card["E0s"].values())
    if card["dtype"] == "float32" and coarse > COARSE:
        said.append(
            f"in float32 total energies are rounded to about {1e3 * coarse:.1g} meV/atom, because "
            "the E0s are large; forces are not touched by that"
        )
    return said


def untuned(card: dict[str, Any], symbols: set[str]) -> list[str]:
    """Elements of some structures that the model was never fine-tuned on, sorted."""
    tuned = card["fine_tuned_elements"]
    return [] if tuned is None else sorted(symbols - set(tuned))
