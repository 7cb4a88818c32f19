"""The committee of the report: what its spread is called."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lora.report import committee


def parity_files(folder: Path, follows: float, n: int = 40) -> list[Path]:
    """Return four members on n structures of two atoms; the error follows the spread, or not."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=2 * n))  # of each atom
    other = np.exp(rng.normal(size=2 * n))
    error = 3 * np.where(rng.random(2 * n) < follows, spread, other)
    noise = rng.normal(size=(4, 2 * n, 3))
    noise -= noise.mean(axis=0)
    noise /= np.sqrt((noise**2).sum(axis=(0, 2), keepdims=True) / 3)  # spread of each atom: 1
    forces = spread[:, None] * noise + error[:, None] / np.sqrt(3)  # [4, 2 n, 3], reference 0
    paths = []
    for i, member in enumerate(forces):
        rows = {"config_type": "Default", "reference": 0.0}
        energy = pd.DataFrame(
            {"test_set": "test", "structure": range(n), "quantity": "energy", **rows}
        ).assign(predicted=rng.normal(size=n))
        force = pd.DataFrame(
            {"test_set": "test", "structure": np.repeat(range(n), 6), "quantity": "force", **rows}
        ).assign(predicted=member.ravel())
        paths.append(folder / f"{i}.parquet")
        pd.concat([energy, force]).to_parquet(paths[-1])
    return paths


@pytest.mark.parametrize(
    ("follows", "said"), [(1.0, "no uncertainty by itself"), (0.0, "is no uncertainty")]
)
def test_a_correlation_is_called_no_uncertainty(tmp_path: Path, follows: float, said: str) -> None:
    data = committee.read(parity_files(tmp_path, follows))
    measured = committee.measure(data)
    numbers = measured["test"]["force"]
    lines = " ".join(committee.verdict(measured, 4))
    assert said in lines and "Committee of the 4 LoRA points" in lines
    if follows:
        assert numbers["rho"] == pytest.approx(1.0)
        assert numbers["error_to_spread"] == pytest.approx(3.0, rel=1e-6)
        assert "says where forces are worse" in lines and "factor of test 3.0" in lines
    else:
        assert abs(numbers["rho"]) < 0.4 and lines.endswith("not above 0.5 on test.")
