"""What the sweep cost, the new E0s and the split, as tables; the numbers beside each as csv.

Called by the rule `tables` with what it names in `snakemake`.
"""

from pathlib import Path

import pandas as pd

from lora.report.page import page, rows_of
from lora.selection.table import read


def save(title: str, note: str, table: pd.DataFrame, path: str) -> None:
    """Write a table as a page, and as csv beside it."""
    table.to_csv(Path(path).with_suffix(".csv"), float_format="%.6g")
    shown = table.astype(object).where(table.notna(), "")
    shown = shown.map(lambda x: f"{x:,.4g}" if isinstance(x, float) else x)
    Path(path).write_text(page(title, f"<p class=note>{note}</p>" + rows_of(shown)))


def cost(table: pd.DataFrame, path: str) -> None:
    """Time, memory and GPU hours of every point."""
    facts = table.drop_duplicates("point").set_index("point")
    facts = facts[facts["method"] != "cut"]
    names = {
        "trainable_parameters": "trainable",
        "total_parameters": "parameters",
        "train_seconds": "seconds",
        "gpu_hours": "GPU hours",
        "peak_memory_mb": "memory (MB)",
        "epochs": "epochs",
        "best_epoch": "best epoch",
        "ended_by": "ended by",
    }
    out = facts[list(names)].rename(columns=names)
    total = f"{facts['train_seconds'].sum() / 3600:.2f} hours of training in all"
    if facts["gpu_hours"].sum():
        total += f", {facts['gpu_hours'].sum():.2f} GPU hours"
    note = (
        f"{total}. Seconds are a point's share of its pack's; memory is the whole pack's: of the "
        "GPU where one was used, else of the process."
    )
    save("What it cost", note, out.rename_axis(None), path)


def e0s(found: dict, path: str) -> None:
    """The atomic reference energies, before and after."""
    out = pd.DataFrame(
        {
            "foundation (eV)": found["foundation_E0s"],
            "new (eV)": found["E0s"],
            "change (eV)": found["correction"],
        }
    )
    note = (
        f"Method: {found['method']}. Energy RMSE of the foundation model on "
        f"{found['n_structures']} training structures: "
        f"{found['rmse_before_mev_per_atom']:,.1f} meV/atom before, "
        f"{found['rmse_after_mev_per_atom']:,.1f} after. The compositions determine "
        f"{found['rank']} of {found['n_elements']} values; where that is fewer, single values mean "
        "nothing, only their sums over such compositions."
    )
    save("Atomic reference energies (E0s)", note, out, path)


def split(found: dict, path: str) -> None:
    """How many structures each set has, and what the leakage check found."""
    counts = {k: v for k, v in found["counts"].items() if k != "test"} | found["test_sets"]
    out = pd.DataFrame({"structures": counts})
    leak = found["leakage"]
    note = (
        f"Method: {found['method']}, seed {found['seed']}. Between sets: {leak['duplicates']} "
        f"duplicates, {leak['near_duplicates']} near duplicates (no sorted distance differs by "
        f"more than {leak['tolerance_angstrom']:g} Å)."
    )
    save("The split", note, out, path)


def main(snakemake: object) -> None:
    cost(pd.read_csv(snakemake.input.table), snakemake.output.cost)
    e0s(read(snakemake.input.e0s), snakemake.output.e0s)
    split(read(snakemake.input.split), snakemake.output.split)
