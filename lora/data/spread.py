"""The spread of a committee, and the error of its mean, from the parity data of its members."""

from collections.abc import Iterable

import numpy as np
import pandas as pd


def components(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return how members differ in every energy and force component, and how their mean errs.

    Mean and variance are kept up to date (Welford, Technometrics 4, 419), so that of any number of
    members no more than two are in memory.

    Args:
        tables: The parity data (`lora.data.parity`) of at least two members, on the same sets.

    Returns:
        The parity data of the first without stresses, and the columns difference (of the mean to
        the reference) and variance (over members), in eV/atom and eV/Å and their squares.
    """
    rest = iter(tables)
    first = _without_stress(next(rest)).copy()
    mean = first["predicted"].to_numpy(copy=True)
    squares, n = np.zeros_like(mean), 1
    for n, table in enumerate(rest, start=2):
        off = _without_stress(table)["predicted"].to_numpy() - mean
        mean += off / n
        squares += off**2 * (n - 1) / n
    first["difference"] = mean - first["reference"]
    first["variance"] = squares / (n - 1)
    return first


def _without_stress(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["quantity"] != "stress"]
