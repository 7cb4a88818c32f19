"""The spread of a committee: of any number of members, without all of them in memory."""

import numpy as np
import pandas as pd

from lora.data.spread import components


def test_mean_and_variance_are_those_of_all_at_once() -> None:
    rng = np.random.default_rng(0)
    n, members = 30, 7
    common = {"quantity": ["energy"] * 6 + ["stress"] * 6 + ["force"] * 18}
    reference = -1e4 + rng.normal(size=n)
    predicted = reference + 1e-3 * rng.normal(size=(members, n))  # large numbers, small spread
    tables = [pd.DataFrame(common | {"reference": reference, "predicted": x}) for x in predicted]
    found = components(iter(tables))
    kept = np.array(common["quantity"]) != "stress"
    assert len(found) == kept.sum()
    mean, variance = predicted.mean(axis=0), predicted.var(axis=0, ddof=1)
    np.testing.assert_allclose(found["difference"], (mean - reference)[kept], rtol=0, atol=1e-11)
    np.testing.assert_allclose(found["variance"], variance[kept], rtol=1e-6)
    assert tables[0]["predicted"].tolist() == predicted[0].tolist()  # which is left as it was
