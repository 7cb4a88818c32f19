"""The exported model as a page: what it is, what to mind, how the engines did, how to load it.

Called by the rule `card` with what it names in `snakemake`.
"""

import html
from pathlib import Path

import pandas as pd

from lora.report.page import page, rows_of
from lora.selection.table import read

USE = {
    "ase": """from mace.calculators import MACECalculator

atoms.calc = MACECalculator("{path}", default_dtype="{dtype}")""",
    "torch-sim": """import torch
from torch_sim.models.mace import MaceModel

model = MaceModel(torch.load("{path}", weights_only=False), dtype=torch.{dtype})""",
    "openmm": """from openmmml import MLPotential

potential = MLPotential("mace", modelPath="{path}")  # energies without the E0s
system = potential.createSystem(topology, precision="{precision}")""",
    "lammps": """pair_style mace no_domain_decomposition
pair_coeff * * {path} {elements}  # those of your atom types, in their order""",
    "lammps-mliap": """pair_style mliap unified {path} 0
pair_coeff * * {elements}  # those of your atom types, in their order""",
    "cueq": """from mace.calculators import MACECalculator

atoms.calc = MACECalculator("{path}", default_dtype="{dtype}")""",
}


def facts(card: dict) -> pd.DataFrame:
    """What the model is and what it was made from."""
    base, data = card["base"], card["data"]
    settings = ", ".join(f"{k} {v}" for k, v in card.get("settings", {}).items() if v is not None)
    rows = {
        "point": card["point"],
        "class": card["class"],
        "dtype, layout, head": f"{card['dtype']}, {card['layout']}, {card['head']}",
        "reach of an edge": f"{card['r_max']:g} Å",
        "elements": " ".join(card["elements"]),
        "fine-tuned": " ".join(card["fine_tuned_elements"] or []) or "none",
        "training": settings or "none",
        "base": f"{base.get('name')} ({base.get('fingerprint')})",
        "licence of the base": base["licence"] or "not known",
        "data": f"{data.get('file')} ({data.get('digest')})",
        "licence of the data": data["licence"] or "not known",
        "weights": card["fingerprint"],
        "made with": ", ".join(f"{k} {v}" for k, v in card["versions"].items()),
    }
    rows |= {f"errors, {name}": shown(found) for name, found in card.get("errors", {}).items()}
    return pd.DataFrame({"": rows})


def shown(found: dict) -> str:
    """RMSE of energy and forces of a set."""
    return (
        f"{found['rmse_e_mev_per_atom']:.3g} meV/atom, {found['rmse_f_mev_per_a']:.3g} meV/Å (RMSE)"
    )


def engines(rows: list[dict]) -> pd.DataFrame:
    """Largest differences to the merged model in ASE, a row an engine."""
    units = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "drift": "meV/atom/ps"}
    table = {}
    for row in rows:
        numbers = {
            f"{key} ({unit})": "" if row.get(key) is None else f"{row[key]:.1e}"
            for key, unit in units.items()
        }
        verdict = row["verdict"] + (f": {row['why']}" if row["why"] else "")
        table[row["engine"]] = numbers | {"verdict": verdict}
    return pd.DataFrame(table).T


def main(snakemake: object) -> None:
    found = read(snakemake.input[0])
    card, folder = found["card"], Path(found["folder"])
    values = {
        "dtype": card["dtype"],
        "precision": {"float32": "single", "float64": "double"}[card["dtype"]],
        "elements": " ".join(card["fine_tuned_elements"] or card["elements"]),
    }
    body = "".join(f"<p><b>Mind:</b> {html.escape(line)}.</p>" for line in card["warnings"])
    body += rows_of(facts(card))
    body += "<p>Each engine against MACE's calculator on the merged model:</p>"
    body += rows_of(engines(found["verified"]))
    for name, file in card["files"].items():
        for engine in file["engines"]:
            code = USE[engine].format(path=folder / name, **values)
            body += f"<p>{html.escape(engine)}</p><pre>{html.escape(code)}</pre>"
    cite = "; ".join(card["cite"])
    body += f"<p class=note>To cite: {html.escape(cite)}.</p>"
    Path(snakemake.output[0]).write_text(page("The chosen model, exported", body))
