"""Write the exported model as a page: what it is, how the engines did, how to load it."""

from pathlib import Path
from typing import Any

import pandas as pd

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE
from lora.catalogue.engines import BY_NAME
from lora.data.calibration import Trial
from lora.files.sealed import read_json, write_text
from lora.plan.sweep import Sweep
from lora.report.foundation_table import chain_text
from lora.report.page import listing, page, paragraph, rows_of
from lora.report.trust_page import sentence

PRECISION = {"float32": "single", "float64": "double"}
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "drift": "meV/atom/ps"}

WATCHED = """\
from lora.calculators.watched import Watched

atoms.calc = Watched("{model}", "{trust}")
atoms.get_forces()
print(atoms.calc.results["forces_bound"])  # of each component of the force on each atom, eV/Å"""


def write(sweep: Sweep) -> list[Path]:
    """Write the page.

    Args:
        sweep: The sweep, with its export.

    Returns:
        The file.
    """
    exported = read_json(sweep.layout.receipt("export"))
    card, folder = exported["card"], Path(exported["folder"])
    values = {
        "dtype": card["dtype"],
        "precision": PRECISION[card["dtype"]],
        "elements": " ".join(card["fine_tuned_elements"] or card["elements"]),
    }
    parts = [paragraph(f"{line}.", lead="Mind:") for line in card["warnings"]]
    parts.append(rows_of(card_rows(card)))
    parts.append(paragraph("Each engine against MACE's calculator on the merged model:"))
    parts.append(rows_of(engines(exported["verified"])))
    for name, file in card["files"].items():
        for engine in file["engines"]:
            code = BY_NAME[engine].snippet.format(path=folder / name, **values)
            parts.append(listing(engine, code))
    if "trust" in card:
        trust, model = card["trust"], _model_of(card)
        parts.append(paragraph(sentence(Trial.from_dict(trust))))
        files = {"model": folder / model, "trust": folder / trust["file"]}
        parts += [listing("with bounds of force errors", WATCHED.format(**files))] if model else []
    parts.append(paragraph(f"To cite: {'; '.join(card['cite'])}.", note=True))
    path = sweep.layout.report("card.html")
    write_text(path, page("The chosen model, exported", *parts))
    return [path]


def _model_of(card: dict[str, Any]) -> str:
    """Return the file that ASE opens; "" where there is none."""
    files = card["files"].items()
    return next((name for name, file in files if "ase" in file["engines"]), "")


def card_rows(card: dict[str, Any]) -> pd.DataFrame:
    """Return what the model is and what it was made from."""
    base, data = card["base"], card["data"]
    settings = ", ".join(f"{k} {v}" for k, v in card.get("settings", {}).items() if v is not None)
    rows = {
        "point": card["point"],
        "class": card["class"],
        "dtype, layout, head": f"{card['dtype']}, {card['layout']}, {card['head']}",
        "reach of an edge": f"{card['r_max']:g} Å",
        "elements": " ".join(card["elements"]),
        "fine-tuned": " ".join(card["fine_tuned_elements"] or []) or "none",
        "new E0s": _e0s(card.get("new_E0s", {})),
        "training": "; ".join(x for x in (settings, card.get("origin")) if x) or "none",
        "base": f"{base.get('name')} ({base.get('fingerprint')})",
        **({"made by": chain_text(chain)} if (chain := card.get("chain")) else {}),
        "licence of the base": base["licence"] or "not known",
        "data": f"{data.get('file')} ({data.get('digest')})",
        "licence of the data": data["licence"] or "not known",
        "weights": card["fingerprint"],
        **{f"SHA-256 of {name}": file["sha256"] for name, file in card["files"].items()},
        "made with": ", ".join(f"{k} {v}" for k, v in card["versions"].items()),
    }
    rows |= {f"errors, {name}": _rmse(found) for name, found in card.get("errors", {}).items()}
    return pd.DataFrame({"": rows})


def _e0s(new: dict[str, Any]) -> str:
    """Return by what method E0s were chosen, and where each is from."""
    if not new:
        return "not known"
    sources = ", ".join(f"{symbol} {source}" for symbol, source in new.get("sources", {}).items())
    known = f"{new['rank']} of {new['n_elements']} determined by the compositions"
    return f"{new['method']}: {sources or 'sources not known'} ({known})"


def _rmse(errors: dict[str, float]) -> str:
    """Return the RMSE of energy and forces of a set."""
    parts = [f"{errors[key]:.3g} {BY_KEY[key].unit}" for key in (ENERGY, FORCE) if key in errors]
    return f"{', '.join(parts)} (RMSE)"


def engines(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the largest differences to the merged model in ASE, a row an engine."""
    table = {}
    for row in rows:
        numbers = {
            f"{key} ({unit})": "" if row.get(key) is None else f"{row[key]:.1e}"
            for key, unit in UNITS.items()
        }
        verdict = row["verdict"] + (f": {row['why']}" if row["why"] else "")
        table[row["engine"]] = numbers | {"verdict": verdict}
    return pd.DataFrame(table).T
