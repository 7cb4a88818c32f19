"""Descriptors of structures: of every architecture, the same however a structure is turned."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from lora.mace.descriptors import structure_descriptors
from lora.mace.elements import trim_elements
from tests.support.models import ONE_HEAD, ONE_HEAD_IDS, Case, make_model


@pytest.mark.parametrize("case", ONE_HEAD, ids=ONE_HEAD_IDS)
def test_what_a_rotation_does_not_change(case: Case) -> None:
    model = make_model(case)
    atoms = molecule("CH3CHO")
    atoms.rattle(0.1, seed=0)
    turned, mirrored, moved = (atoms.copy() for _ in range(3))
    turned.rotate(77.0, (1, 2, 3))
    mirrored.positions[:, 0] *= -1
    moved.positions[3, 1] += 0.1
    backwards = atoms[::-1]
    found = structure_descriptors(model, [atoms, turned, mirrored, backwards, moved], 2)
    n = 2 * case.channels * case.layers  # a mean and a spread of each channel
    assert found.shape == (5, n) and found.dtype == np.float64 and np.isfinite(found).all()
    scale, bound = np.abs(found[0]).max(), 1e-9 if case.dtype == torch.float64 else 1e-3
    assert np.abs(found[1:4] - found[0]).max() < bound * scale
    assert np.abs(found[4] - found[0]).max() > 1e-4 * scale
    trimmed = structure_descriptors(trim_elements(model, [1, 6, 8]), [atoms])
    assert trimmed == pytest.approx(found[:1], rel=1e-3, abs=bound * scale)


def test_sizes_and_none() -> None:
    """A crystal and its supercell are one point; nothing is no row."""
    model, crystal = make_model(), bulk("C")
    rows = structure_descriptors(model, [crystal, crystal.repeat(2)])
    assert rows[0] == pytest.approx(rows[1], abs=1e-9)
    assert structure_descriptors(model, []).shape == (0, rows.shape[1])
