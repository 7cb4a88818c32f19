"""Write what the sweep cost, the new E0s and the split, as pages with their numbers as csv."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from lora.files.sealed import read_json, write_text
from lora.plan.sweep import Sweep
from lora.report.page import page, paragraph, rows_of
from lora.selection.table import columns_of, copied, read_table


def write(sweep: Sweep) -> list[Path]:
    """Write the pages.

    Args:
        sweep: The sweep, with its table of points, E0s and split.

    Returns:
        The files.
    """
    layout = sweep.layout
    return [
        *cost(read_table(sweep), layout.report("cost.html"), copied(sweep.points)),
        *e0s(read_json(layout.receipt("e0s")), layout.report("e0s.html")),
        *split(read_json(layout.receipt("split")), layout.report("split.html")),
    ]


def save(
    title: str, note: str, table: pd.DataFrame, path: Path, digits: str = ",.4g"
) -> list[Path]:
    """Write a table as a page, and as csv beside it; return both files."""
    numbers = path.with_suffix(".csv")
    table.to_csv(numbers, float_format="%.6g")
    cells = table.astype(object).where(table.notna(), "")
    cells = cells.map(lambda x: f"{x:{digits}}" if isinstance(x, float) else x)
    write_text(path, page(title, paragraph(note, note=True), rows_of(cells)))
    return [path, numbers]


def cost(table: pd.DataFrame, path: Path, copies: Collection[str] = ()) -> list[Path]:
    """Write time, memory and GPU hours of every point, without cuts that were not trained."""
    points = table.drop_duplicates("point").set_index("point")
    points = points.drop(index=[x for x in copies if x in points.index])
    headings = {column.key: column.heading for column in columns_of(table, "cost")}
    out = points[list(headings)].rename(columns=headings)
    total = f"{points['train_seconds'].sum() / 3600:.2f} hours of training in all"
    if points["gpu_hours"].sum():
        total += f", {points['gpu_hours'].sum():.2f} GPU hours"
    note = (
        f"{total}. The time of a point is its share of the time of its pack. Memory is that of the "
        "whole pack: of the GPU where one was used, else of the process."
    )
    return save("What it cost", note, out.rename_axis(None), path)


def e0s(found: dict[str, Any], path: Path) -> list[Path]:
    """Write the atomic reference energies, before and after, and where they are from."""
    columns = {
        "foundation (eV)": found["foundation_E0s"],
        "new (eV)": found["E0s"],
        "change (eV)": found["correction"],
        "prior (eV)": found.get("prior", {}),
        "from": found.get("sources", {}),
    }
    out = pd.DataFrame({name: values for name, values in columns.items() if values})
    note = f"Method: {found['method']}. "
    if found["n_structures"]:
        note += (
            f"Energy RMSE of the foundation model on {found['n_structures']} training structures: "
            f"{found['rmse_before_mev_per_atom']:,.1f} meV/atom before, "
            f"{found['rmse_after_mev_per_atom']:,.1f} after. "
        )
    known = f"The compositions determine {found['rank']} of {found['n_elements']} values."
    note += " ".join(found.get("sentences") or [known])
    return save("Atomic reference energies (E0s)", note, out, path, ",.3f")


def split(found: dict[str, Any], path: Path) -> list[Path]:
    """Write how many structures and labels each set has, and what the leakage check found."""
    free = {"free atoms": {"structures": found["counts"]["isolated_atoms"]}}
    sets = found["labels"] | free  # no name of a set has a space
    out = pd.DataFrame(sets).T.dropna(axis="columns", how="all").astype("Int64")
    out = out.loc[:, out.sum() > 0].rename(columns=lambda name: name.replace("_", " "))
    leak = found["leakage"]
    note = (
        f"Method: {found['method']}, seed {found['seed']}. Between sets: {leak['duplicates']} "
        f"duplicates, {leak['near_duplicates']} near duplicates (no sorted distance differs by "
        f"more than {leak['tolerance_angstrom']:g} Å)."
    )
    note = " ".join([note, *(f"{line}." for line in found["warnings"])])
    return save("The split", note, out, path)
