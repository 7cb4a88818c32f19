"""Compare reference and prediction, number by number and in the mean."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from ase import Atoms

from lora.data.labels import has_volume, reference
from lora.data.origin import origin_of
from lora.data.statistics import rms
from lora.data.structures import formula_of, type_of


def parity(
    structures: Sequence[Atoms], predicted: dict[str, np.ndarray], name: str
) -> pd.DataFrame:
    """Return reference and prediction of every number, a row each.

    Args:
        structures: Labelled structures.
        predicted: Energies [n] (eV), forces [n_atoms of all, 3] (eV/Å) and, where there are
            any, stresses [n, 3, 3] (eV/Å^3).
        name: The name of the set.

    Returns:
        A table with the columns test_set, config_type, structure (its number in the set),
        composition (its formula), source_file and frame (its origin, see `lora.data.origin`; an
        empty name and -1 where it has none), atom and element (its number in the structure and
        its symbol; -1 and an empty name where it is no force), quantity (energy in eV/atom;
        force, a component in eV/Å; stress, a component in eV/Å^3), reference (NaN where the
        structure does not have the label, or gives it the weight 0), predicted.
    """
    truth = reference(structures)
    types = np.array([type_of(atoms) for atoms in structures])
    origins = [origin_of(atoms) for atoms in structures]
    files = np.array([x.file if x else "" for x in origins], dtype=object)
    frames = np.array([x.frame if x else -1 for x in origins])
    formulas = np.array([formula_of(atoms) for atoms in structures])
    n_atoms, index = truth["n_atoms"], np.arange(len(structures))
    symbols = [symbol for atoms in structures for symbol in atoms.symbols]
    numbers = [i for n in n_atoms for i in range(int(n))]
    rows = [
        ("energy", index, truth["energy"] / n_atoms, predicted["energy"] / n_atoms),
        ("force", np.repeat(index, 3 * n_atoms), truth["forces"], predicted["forces"]),
    ]
    if "stress" in predicted:
        spans = np.array([has_volume(atoms) for atoms in structures], dtype=bool)
        of_them = (truth["stress"][spans], predicted["stress"][spans])
        rows.append(("stress", np.repeat(index[spans], 9), *of_them))
    parts = [
        pd.DataFrame(
            {
                "test_set": name,
                "config_type": types[which],
                "structure": which,
                "composition": formulas[which],
                "source_file": files[which],
                "frame": frames[which],
                "atom": np.repeat(numbers, 3) if quantity == "force" else -1,
                "element": np.repeat(symbols, 3) if quantity == "force" else "",
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
    """Return RMSE and MAE of each quantity that has references, in meV/atom, meV/Å, meV/Å^3.

    Args:
        table: A table of `parity`, or a part of one.
    """
    out = {}
    for quantity, part in table.dropna(subset="reference").groupby("quantity"):
        short, unit = UNITS[str(quantity)]
        difference = 1e3 * (part["predicted"] - part["reference"]).to_numpy()
        out[f"rmse_{short}_{unit}"] = rms(difference)
        out[f"mae_{short}_{unit}"] = float(np.mean(np.abs(difference)))
    return out
