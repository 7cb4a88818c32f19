"""Errors taken apart, on made-up parity data, against plain numpy and known answers."""

import numpy as np
import pandas as pd
import pytest
from ase.build import molecule

from lora.catalogue.columns import ENERGY, FORCE
from lora.data.breakdown import (
    ENERGY_MAE,
    FORCE_MAE,
    Breakdown,
    atoms_of,
    energies_of,
    quantiles,
    worst_frames,
)
from lora.data.labels import ENERGY as LABEL
from lora.data.labels import FORCES
from lora.data.parity import parity

N = 12


def made(seed: int = 0, n: int = N) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return parity data of n waters, and their reference and predicted forces [n, 3, 3]."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(n, 3, 3)) * np.logspace(-2, 1, n)[:, None, None]
    predicted = reference + 0.1 * rng.normal(size=(n, 3, 3))
    structures = []
    for i in range(n):
        atoms = molecule("H2O")
        atoms.info |= {LABEL: -3.0 * i, "config_type": "even" if i % 2 == 0 else "odd"}
        atoms.info |= {"lora_source_file": "dft.xyz", "lora_source_frame": 100 + i}
        atoms.arrays[FORCES] = reference[i]
        structures.append(atoms)
    energies = np.array([-3.0 * i + 0.003 * (i % 3) for i in range(n)])
    found = {"energy": energies, "forces": predicted.reshape(-1, 3)}
    return parity(structures, found, "test"), reference, predicted


def test_forces_by_element_size_and_direction() -> None:
    table, reference, predicted = made()
    found, off = Breakdown.of(table), 1e3 * (predicted - reference)
    symbols = np.array(molecule("H2O").get_chemical_symbols())
    assert list(found.elements["element"]) == ["H", "O"]
    for row in found.elements.to_dict("records"):
        own = off[:, symbols == row["element"]]
        assert row["atoms"] == own.size / 3
        assert row[FORCE] == pytest.approx(np.sqrt(np.mean(own**2)))
        assert row[FORCE_MAE] == pytest.approx(np.mean(np.abs(own)))
    size = np.linalg.norm(reference, axis=-1)
    assert found.sizes["atoms"].sum() == size.size and len(found.sizes) > 4
    for row in found.sizes.to_dict("records"):
        own = off[(size >= row["low"]) & (size < row["high"])]
        assert row["atoms"] == len(own)
        assert row[FORCE] == pytest.approx(np.sqrt(np.mean(own**2)))
    lengths = size * np.linalg.norm(predicted, axis=-1)
    cosine = ((reference * predicted).sum(axis=-1) / lengths)[size >= 0.1]
    (row,) = found.directions.to_dict("records")
    assert (row["atoms"], row["left_out"]) == (cosine.size, size.size - cosine.size)
    assert row["left_out"] > 0 and row["mean_cosine"] == pytest.approx(cosine.mean())
    assert row["turned_percent"] == pytest.approx(100 * np.mean(cosine < 0.9))
    assert row["turned_percent"] > 0


def test_known_directions_and_bins() -> None:
    """Along, across and against; a force on an edge belongs to the bin above it."""
    table, _, _ = made(n=1)
    forces = table["quantity"] == "force"
    table.loc[forces, "reference"] = [1.0, 0, 0, 0.5, 0, 0, 0.05, 0, 0]
    table.loc[forces, "predicted"] = [3.0, 0, 0, 0, 2.0, 0, -9.0, 0, 0]
    atoms = atoms_of(table)
    assert list(atoms["cosine"]) == [1.0, 0.0, -1.0]
    found = Breakdown.of(table)
    (row,) = found.directions.to_dict("records")
    assert (row["atoms"], row["left_out"], row["turned_percent"]) == (2, 1, 50.0)
    assert row["mean_cosine"] == 0.5
    assert list(zip(found.sizes["low"], found.sizes["high"], strict=True)) == [
        *((0.0, 0.1), (0.5, 1.0), (1.0, 2.0)),
    ]


def test_relative_energies_leave_out_offsets_and_lonely_compositions() -> None:
    table, _, _ = made()
    energies = table["quantity"] == "energy"
    table["composition"] = np.where(table["structure"] == 0, "O", table["composition"])
    table.loc[energies & (table["structure"] > 5), "composition"] = "H2"
    table.loc[energies & (table["structure"] > 5), "predicted"] += 7.0  # of that composition alone
    table.loc[energies & (table["structure"] == 0), "predicted"] += 99.0
    (row,) = Breakdown.of(table).relative.to_dict("records")
    assert (row["compositions"], row["frames"], row["left_out"]) == (2, N - 1, 1)
    off = [np.array([0.003 * (i % 3) / 3 for i in part]) for part in (range(1, 6), range(6, N))]
    wrong = 1e3 * np.concatenate([x - x.mean() for x in off])
    assert row[ENERGY] == pytest.approx(np.sqrt(np.mean(wrong**2)))
    assert row[ENERGY_MAE] == pytest.approx(np.mean(np.abs(wrong)))


def test_types_quantiles_and_worst_frames() -> None:
    table, reference, predicted = made()
    found = Breakdown.of(table)
    off = 1e3 * (predicted - reference)
    assert list(found.types["config_type"]) == ["even", "odd"]
    assert list(found.types["frames"]) == [N / 2, N / 2]
    assert found.types[FORCE][1] == pytest.approx(np.sqrt(np.mean(off[1::2] ** 2)))
    levels = quantiles(atoms_of(table), energies_of(table), [0.5, 1.0])
    length = np.linalg.norm(off, axis=-1)
    forces = levels[levels["quantity"] == "force"]
    assert list(forces["error"]) == pytest.approx([np.median(length), length.max()])
    assert levels.loc[levels["quantity"] == "energy", "error"].max() == pytest.approx(2.0)
    rmse = np.sqrt(np.mean(off**2, axis=(1, 2)))
    order = np.argsort(-rmse)
    frames = found.frames
    assert len(frames) == 10 and list(frames["frame"]) == [100 + i for i in order[:10]]
    assert set(frames["source_file"]) == {"dft.xyz"} and set(frames["composition"]) == {"H2O"}
    assert list(frames["config_type"]) == ["odd" if i % 2 else "even" for i in order[:10]]
    assert list(frames["force_rmse"]) == pytest.approx(list(rmse[order[:10]]))
    assert list(frames["largest_error"]) == pytest.approx(list(length.max(axis=1)[order[:10]]))
    assert list(frames["atom"]) == list(length.argmax(axis=1)[order[:10]])


def test_without_forces_or_energies_there_is_no_row_and_no_error() -> None:
    table, _, _ = made()
    for lacking in ("force", "energy"):
        part = table.assign(reference=table["reference"].mask(table["quantity"] == lacking))
        found = Breakdown.of(part)
        assert found.elements.empty == (lacking == "force")
        assert found.relative.empty == (lacking == "energy")
        assert set(found.quantiles["quantity"]) == {"energy", "force"} - {lacking}
        worst = worst_frames(atoms_of(part), energies_of(part), 3)
        assert len(worst) == 3 and worst["energy_error"].isna().all() == (lacking == "energy")
