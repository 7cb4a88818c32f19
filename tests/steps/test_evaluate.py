"""Errors of a model: against MACE's own evaluation, by set and by config_type."""

import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch

from lora.data.structures import ENERGY, FORCES, STRESS, load_structures, write_structures
from lora.files.sealed import Receipt, read_json
from lora.plan.commands import Run
from lora.steps.evaluate import evaluate
from tests.support.models import make_model, structures


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    torch.save(make_model(), tmp_path / "m.model")
    test = [*structures(1), *structures(2)]
    for i, atoms in enumerate(test):
        atoms.info["test_set"] = "test" if i < 6 else "hot"
        atoms.info["config_type"] = "even" if i % 2 == 0 else "odd"
    write_structures(tmp_path / "valid.xyz", structures(3))
    write_structures(tmp_path / "test.xyz", test)
    return {
        "models": {tmp_path / "p.json": tmp_path / "m.model"},
        "valid_file": tmp_path / "valid.xyz",
        "test_file": tmp_path / "test.xyz",
    }


@pytest.mark.slow
def test_against_mace_eval_configs(files: dict, tmp_path: Path) -> None:
    """mace_eval_configs on the same file gives the same RMSE and MAE."""
    (result,) = evaluate(**files, batch_size=4)
    command = [sys.executable, "-m", "mace.cli.eval_configs", "--configs", files["test_file"]]
    command += ["--model", tmp_path / "m.model", "--output", tmp_path / "mace.xyz"]
    command += ["--default_dtype", "float64", "--device", "cpu", "--compute_stress"]
    subprocess.run([str(x) for x in command], check=True, capture_output=True)
    theirs = ase.io.read(tmp_path / "mace.xyz", ":")
    for name, part in (("test", theirs[:6]), ("hot", theirs[6:])):
        de = [(a.info["MACE_energy"] - a.info[ENERGY]) / len(a) for a in part]
        df = np.concatenate([a.arrays["MACE_forces"] - a.arrays[FORCES] for a in part])
        ds = [
            np.ravel(a.info["MACE_stress"]) - np.ravel(a.info[STRESS]) for a in part if a.pbc.all()
        ]
        ours = result["sets"][name]
        for short, unit, values in (
            ("e", "mev_per_atom", de),
            ("f", "mev_per_a", df),
            ("stress", "mev_per_a3", ds),
        ):
            rmse, mae = np.sqrt(np.mean(np.square(values))), np.mean(np.abs(values))
            assert ours[f"rmse_{short}_{unit}"] == pytest.approx(1e3 * rmse, rel=1e-6)
            assert ours[f"mae_{short}_{unit}"] == pytest.approx(1e3 * mae, rel=1e-6)


def test_a_set_whose_name_reads_as_a_number(files: dict) -> None:
    test = list(load_structures(files["test_file"]))
    for atoms in test[6:]:
        atoms.info["test_set"] = "600"
    write_structures(files["test_file"], test)
    (result,) = evaluate(**files)
    assert list(result["sets"]) == ["valid", "test", "600"]


def test_sets_types_and_parity(files: dict, tmp_path: Path) -> None:
    (result,) = evaluate(**files, run=Run(receipt=Receipt(tmp_path / "packs/all.json")))
    assert read_json(tmp_path / "packs/all.json") == {"p": result}
    assert read_json(tmp_path / "p.json") == result
    assert list(result["sets"]) == ["valid", "test", "hot"]
    assert set(result["sets"]["test"]["config_types"]) == {"even", "odd"}
    table = pd.read_parquet(tmp_path / "p.parquet")
    part = table[(table["test_set"] == "hot") & (table["quantity"] == "force")]
    assert len(part) == 3 * sum(len(a) for a in structures())
    rmse = 1e3 * np.sqrt(np.mean((part["predicted"] - part["reference"]) ** 2))
    assert result["sets"]["hot"]["rmse_f_mev_per_a"] == pytest.approx(rmse)
    by_type = result["sets"]["hot"]["config_types"]
    n = {k: (part["config_type"] == k).sum() for k in by_type}
    pooled = sum(n[k] * v["rmse_f_mev_per_a"] ** 2 for k, v in by_type.items()) / len(part)
    assert np.sqrt(pooled) == pytest.approx(rmse)  # the types make up the whole


def test_parity_names_the_original_frame(files: dict, tmp_path: Path) -> None:
    """Who sees an outlier finds it in the file that it came from."""
    test = load_structures(files["test_file"])
    rest = structures(4)
    for i, atoms in enumerate(test):
        atoms.info["lora_source_file"], atoms.info["lora_source_frame"] = "dft.xyz", 100 - i
    for atoms in rest:
        atoms.info["test_set"] = "hot"
    write_structures(tmp_path / "test.xyz", [*test, *rest])
    evaluate(files["models"], files["valid_file"], tmp_path / "test.xyz")
    table = pd.read_parquet(tmp_path / "p.parquet")
    energies = table[table["quantity"] == "energy"]
    origins = list(zip(energies["source_file"], energies["frame"], strict=True))
    made = [("dft.xyz", 100 - i) for i in range(6)]
    assert origins[6:12] == made  # after those of the validation set, which name that file
    assert origins[:6] == [(str(files["valid_file"]), i) for i in range(6)]
    assert origins[18:] == [(str(tmp_path / "test.xyz"), 12 + i) for i in range(6)]
    for _, part in table.groupby(["test_set", "structure"]):
        assert part["frame"].nunique() == part["source_file"].nunique() == 1
    outlier = table.loc[(table["predicted"] - table["reference"]).abs().idxmax()]
    assert isinstance(outlier["source_file"], str) and outlier["frame"] >= 0
