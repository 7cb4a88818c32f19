"""Make of parity data a table for MLflow's page of evaluations, a row a structure."""

from pathlib import Path

import numpy as np
import pandas as pd

TABLE = "parity.json"
MOST = 2000  # rows; MLflow's page loads the whole file
KEYS = ["test_set", "structure"]


def parity_of(path: Path) -> str:
    """Return reference and prediction of each structure, as MLflow keeps tables.

    Columns: structure (set and number in it), force_rmse, force_largest_error (meV/Å),
    energy_error (meV/atom), energy_reference, energy_predicted (eV/atom), test_set, config_type;
    without those that no structure has labels for.  MLflow compares runs by the second where the
    first is the same.  The largest force errors come first; of large sets the first `MOST` alone.

    Args:
        path: The parity data of a point.

    Returns:
        JSON; "" where the file is missing.
    """
    if not path.is_file():
        return ""
    table = pd.read_parquet(path)
    energy = table[table["quantity"] == "energy"].set_index(KEYS)
    force = table[table["quantity"] == "force"].dropna(subset="reference")
    wrong = (
        (1e3 * (force["predicted"] - force["reference"]))
        .abs()
        .groupby([force[key] for key in KEYS])
    )
    rows = pd.DataFrame(
        {
            "force_rmse": wrong.agg(lambda x: float(np.sqrt(np.mean(x**2)))),
            "force_largest_error": wrong.max(),
            "energy_error": 1e3 * (energy["predicted"] - energy["reference"]),
            "energy_reference": energy["reference"],
            "energy_predicted": energy["predicted"],
            "test_set": energy.index.get_level_values("test_set"),
            "config_type": energy["config_type"],
        },
        index=energy.index,
    )
    names = [f"{name} {number}" for name, number in rows.index]
    rows = rows.reset_index(drop=True).dropna(axis="columns", how="all")
    rows.insert(0, "structure", names)
    by = "force_largest_error" if "force_largest_error" in rows else "energy_error"
    rows = rows.sort_values(by, key=abs, ascending=False, kind="stable").head(MOST)
    rounded = {"energy_reference": 6, "energy_predicted": 6}
    digits = {x: rounded.get(x, 2) for x in rows.columns if rows[x].dtype.kind == "f"}
    return str(rows.round(digits).to_json(orient="split", index=False))
