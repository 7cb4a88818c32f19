"""Take the errors of a model apart: by element, force size, direction, composition and frame.

All of it is computed from parity data (`lora.data.parity`), on every set; what has no reference is
left out.  Errors of forces by element and by size are those of the components, as everywhere; the
error of one force is the length of the difference, |F_predicted - F_reference|.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lora.catalogue.columns import ENERGY, FORCE
from lora.data.parity import errors

FORCE_MAE, ENERGY_MAE = "mae_f_mev_per_a", "mae_e_mev_per_atom"
DIRECTED = 0.1  # eV/Å: forces below have no direction that matters
EDGES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, np.inf)  # eV/Å, of the bins of force size
TURNED = 0.9  # a cosine below it counts as a wrong direction: more than 26 degrees
LEVELS = (0.5, 0.9, 0.95, 0.99, 1.0)  # of the table of quantiles
WORST = 10
KEYS = ["test_set", "structure"]
FRAME = [*KEYS, "source_file", "frame", "config_type", "composition"]


@dataclass(frozen=True)
class Breakdown:
    """The errors of one model, taken apart; every table has the column test_set.

    Attributes:
        elements: element, atoms, and RMSE and MAE of force components (meV/Å).
        types: config_type, frames, energy_frames and force_frames of them that have the label, and
            RMSE and MAE of all labels, as `lora.data.parity.errors`.
        sizes: low and high (eV/Å) of |F_reference|, atoms, RMSE and MAE (meV/Å).
        directions: atoms with |F_reference| of at least `DIRECTED`, left_out, mean_cosine of the
            angle to the predicted force, turned_percent with a cosine below `TURNED`.
        relative: compositions of at least two frames, frames of them, left_out, and RMSE and MAE
            of energies relative to the mean of their composition in that set (meV/atom).
        quantiles: quantity (energy, meV/atom; force, meV/Å), level, error: the size that this
            share of the errors is not above.
        frames: the worst frames: where each is from, force_rmse (meV/Å), energy_error (meV/atom),
            and atom, element and largest_error (meV/Å) of its worst force.
    """

    elements: pd.DataFrame
    types: pd.DataFrame
    sizes: pd.DataFrame
    directions: pd.DataFrame
    relative: pd.DataFrame
    quantiles: pd.DataFrame
    frames: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Breakdown":
        """Take the errors of a model apart.

        Args:
            table: Its parity data.
        """
        atoms, energies = atoms_of(table), energies_of(table)
        return cls(
            by_element(atoms),
            by_type(table),
            by_size(atoms),
            directions(atoms),
            relative_energies(energies),
            quantiles(atoms, energies, LEVELS),
            worst_frames(atoms, energies),
        )


def atoms_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row an atom that has a reference force.

    Args:
        table: Parity data; the three components of a force follow each other.

    Returns:
        Where the atom is (`FRAME`, atom, element), size (|F_reference|, eV/Å), error (the length
        of the difference, eV/Å), square and absolute (means over the components, eV^2/Å^2 and
        eV/Å), cosine (of the angle between both forces; 0 where one of them is 0).
    """
    forces = table[table["quantity"] == "force"]
    reference, predicted = (
        forces[x].to_numpy(float).reshape(-1, 3) for x in ("reference", "predicted")
    )
    off = predicted - reference
    size, length = np.linalg.norm(reference, axis=1), np.linalg.norm(predicted, axis=1)
    product = size * length
    dots = (reference * predicted).sum(axis=1)
    cosine = np.divide(dots, product, out=np.zeros_like(dots), where=product > 0)
    out = forces.iloc[::3][[*FRAME, "atom", "element"]].assign(
        size=size,
        error=np.linalg.norm(off, axis=1),
        square=(off**2).mean(axis=1),
        absolute=np.abs(off).mean(axis=1),
        cosine=np.clip(cosine, -1, 1),
    )
    return out.dropna(subset="size").reset_index(drop=True)


def energies_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a frame that has a reference energy: `FRAME`, reference, predicted (eV/atom)."""
    part = table.loc[table["quantity"] == "energy", [*FRAME, "reference", "predicted"]]
    return part.dropna(subset="reference").reset_index(drop=True)


def by_element(atoms: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of force components by element (see `Breakdown.elements`)."""
    return _forces(atoms, ["test_set", "element"])


def by_size(atoms: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of force components by the size of the reference, in bins of `EDGES`."""
    bins = np.searchsorted(EDGES, atoms["size"], side="right")  # an edge belongs to the bin above
    low, high = np.array(EDGES)[bins - 1], np.array(EDGES)[bins]
    return _forces(atoms.assign(low=low, high=high), ["test_set", "low", "high"])


def _forces(atoms: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the number of atoms, RMSE and MAE of force components (meV/Å) of each group."""
    found = (
        atoms.groupby(keys, sort=False)
        .agg(atoms=("square", "size"), square=("square", "mean"), absolute=("absolute", "mean"))
        .reset_index()
    )
    found[FORCE], found[FORCE_MAE] = 1e3 * np.sqrt(found["square"]), 1e3 * found["absolute"]
    found = found.drop(columns=["square", "absolute"])
    return _in_order(found, keys[1:])


def by_type(table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of all labels by config_type (see `Breakdown.types`)."""
    rows = []
    for (s, name), part in table.groupby(["test_set", "config_type"], sort=False):
        labelled = part.dropna(subset="reference")
        row = {"test_set": s, "config_type": name, "frames": part["structure"].nunique()}
        for quantity in ("energy", "force"):
            own = labelled.loc[labelled["quantity"] == quantity, "structure"]
            row[f"{quantity}_frames"] = own.nunique()
        rows.append(row | errors(part))
    return _in_order(pd.DataFrame(rows), ["config_type"])


def directions(atoms: pd.DataFrame) -> pd.DataFrame:
    """Return how well the directions of forces are predicted (see `Breakdown.directions`)."""
    rows = []
    for test_set, part in atoms.groupby("test_set", sort=False):
        cosine = part.loc[part["size"] >= DIRECTED, "cosine"]
        row = {"test_set": test_set, "atoms": len(cosine), "left_out": len(part) - len(cosine)}
        row |= {"mean_cosine": cosine.mean(), "turned_percent": 100 * (cosine < TURNED).mean()}
        rows.append(row)
    columns = ["test_set", "atoms", "left_out", "mean_cosine", "turned_percent"]
    return pd.DataFrame(rows, columns=columns)


def relative_energies(energies: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of energies within a composition (see `Breakdown.relative`)."""
    rows = []
    for test_set, part in energies.groupby("test_set", sort=False):
        grouped = part.groupby("composition")
        several = part[grouped["structure"].transform("size") > 1]
        off = several["predicted"] - several["reference"]
        off = 1e3 * (off - off.groupby(several["composition"]).transform("mean"))
        row = {"test_set": test_set, "compositions": several["composition"].nunique()}
        row |= {"frames": len(several), "left_out": len(part) - len(several)}
        row |= {ENERGY: np.sqrt((off**2).mean()), ENERGY_MAE: off.abs().mean()}
        rows.append(row)
    columns = ["test_set", "compositions", "frames", "left_out", ENERGY, ENERGY_MAE]
    return pd.DataFrame(rows, columns=columns)


def quantiles(atoms: pd.DataFrame, energies: pd.DataFrame, levels: Iterable[float]) -> pd.DataFrame:
    """Return the sizes of errors that shares of them stay below (see `Breakdown.quantiles`).

    Args:
        atoms: What `atoms_of` returns.
        energies: What `energies_of` returns.
        levels: The shares, 0 to 1.
    """
    sizes = {
        "energy": (energies["predicted"] - energies["reference"]).abs(),
        "force": atoms["error"],
    }
    parts = []
    for quantity, found in sizes.items():
        sets = (energies if quantity == "energy" else atoms)["test_set"]
        for test_set, part in found.groupby(sets, sort=False):
            values = 1e3 * part.quantile(list(levels))
            row = {"test_set": test_set, "quantity": quantity, "level": values.index}
            parts.append(pd.DataFrame({**row, "error": values.to_numpy()}))
    columns = ["test_set", "quantity", "level", "error"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def worst_frames(atoms: pd.DataFrame, energies: pd.DataFrame, n: int = WORST) -> pd.DataFrame:
    """Return the frames of the largest force RMSE, those without forces by energy after them.

    Args:
        atoms: What `atoms_of` returns.
        energies: What `energies_of` returns.
        n: How many of them.
    """
    grouped = atoms.groupby(KEYS, sort=False)
    worst = atoms.loc[grouped["error"].idxmax(), [*FRAME, "atom", "element", "error"]]
    worst = worst.set_index(KEYS).rename(columns={"error": "largest_error"})
    worst["largest_error"] *= 1e3
    worst["force_rmse"] = 1e3 * np.sqrt(grouped["square"].mean())
    known = energies.set_index(KEYS)
    off = 1e3 * (known["predicted"] - known["reference"])
    out = worst.combine_first(known[FRAME[len(KEYS) :]]).assign(energy_error=off)
    out = out.assign(size=off.abs()).sort_values(
        ["force_rmse", "size"], ascending=False, na_position="last"
    )
    columns = [*FRAME, "force_rmse", "energy_error", "atom", "element", "largest_error"]
    return out.head(n).reset_index()[columns].astype({"atom": "Int64"})


def _in_order(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return a table sorted by some columns within each set; sets stay as they come."""
    sets = {name: i for i, name in enumerate(table["test_set"].unique())}
    ordered = table.assign(_set=table["test_set"].map(sets)).sort_values(["_set", *keys])
    return ordered.drop(columns="_set").reset_index(drop=True)
