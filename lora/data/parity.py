"""Reference against prediction of every number, and the errors in it."""

import numpy as np
import pandas as pd
from ase import Atoms

from lora.data.statistics import rms
from lora.data.structures import STRESS, reference


def parity(structures: list[Atoms], predicted: dict[str, np.ndarray], name: str) -> pd.DataFrame:
    """Reference and prediction of every number, a row each.

    Columns: test_set, config_type, structure, quantity (energy in eV/atom; force, a component
    in eV/Å; stress, a component in eV/Å^3), reference, predicted.
    """
    truth = reference(structures)
    types = np.array([str(a.info.get("config_type", "Default")) for a in structures])
    n_atoms, index = truth["n_atoms"], np.arange(len(structures))
    rows = [
        ("energy", index, truth["energy"] / n_atoms, predicted["energy"] / n_atoms),
        ("force", np.repeat(index, 3 * n_atoms), truth["forces"], predicted["forces"]),
    ]
    if "stress" in predicted:
        stress = np.array([atoms.info[STRESS] for atoms in structures])
        rows.append(("stress", np.repeat(index, 9), stress, predicted["stress"]))
    parts = [
        pd.DataFrame(
            {
                "test_set": name,
                "config_type": types[which],
                "structure": which,
                "quantity": quantity,
                "reference": np.ravel(expected),
                "predicted": np.ravel(found),
            }
        )
        for quantity, which, expected, found in rows
    ]
    return pd.concat(parts)


UNITS = {
    "energy": ("e", "mev_per_atom"),
    "force": ("f", "mev_per_a"),
    "stress": ("stress", "mev_per_a3"),
}


def errors(table: pd.DataFrame) -> dict[str, float]:
    """RMSE and MAE of each quantity of a parity table, in meV/atom, meV/Å, meV/Å^3."""
    out = {}
    for quantity, part in table.groupby("quantity"):
        short, unit = UNITS[quantity]
        difference = 1e3 * (part["predicted"] - part["reference"]).to_numpy()
        out[f"rmse_{short}_{unit}"] = rms(difference)
        out[f"mae_{short}_{unit}"] = float(np.mean(np.abs(difference)))
    return out
