"""The spread of a committee, and the error of its mean, from the parity data of its members."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def components(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return how members differ in every energy and force component, and how their mean errs.

    Args:
        tables: The parity data (`lora.data.parity`) of at least two members, on the same sets.

    Returns:
        The parity data of the first without stresses, and the columns difference (of the mean to
        the reference) and variance (over members), in eV/atom and eV/Å and their squares.
    """
    first = tables[0][tables[0]["quantity"] != "stress"].copy()
    predicted = np.stack([t.loc[t["quantity"] != "stress", "predicted"] for t in tables])  # [K, n]
    first["difference"] = predicted.mean(axis=0) - first["reference"]
    first["variance"] = predicted.var(axis=0, ddof=1)
    return first
