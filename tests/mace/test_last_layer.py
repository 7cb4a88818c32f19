"""The features that a model's last layer reads: energies are linear in them."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.foundation import fingerprint
from lora.mace.graphs import batches, graphs
from lora.mace.last_layer import LastLayer, features
from lora.mace.predict import frozen
from tests.support.models import BASE, ONE_HEAD, Case, make_model

CASES = {case.name: case for case in ONE_HEAD if case.dtype == torch.float64}
CASES |= {"charged": replace(BASE, charged=True), "one_layer": replace(BASE, layers=1)}


def molecules(n: int = 12) -> list[Atoms]:
    rng = np.random.default_rng(0)
    found = [molecule(name) for name in ("CH3CHO", "HCOOH", "CH3NO2") for _ in range(n // 3)]
    for atoms in found:
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_energy_of_an_atom_is_linear_in_its_features(case: Case) -> None:
    model = make_model(case)
    made = graphs(molecules(), model)
    found = np.concatenate(list(features(model, made, 5)))
    with frozen(model):
        (batch,) = batches(made, len(made))
        energy = model(batch.to_dict())["node_energy"].detach().numpy()
    kinds = batch["node_attrs"].numpy()
    kinds = kinds[:, kinds.any(axis=0)]  # E0s, shifts and biases
    assert (
        len(found) == len(energy) and np.ptp(energy - kinds @ np.linalg.pinv(kinds) @ energy) > 0.01
    )
    both = np.hstack([found, kinds])
    weights, *_ = np.linalg.lstsq(both, energy, rcond=1e-12)
    assert np.abs(both @ weights - energy).max() < 1e-9
    assert found.shape[1] < len(found) / 3  # not by having as many numbers as atoms


def test_they_do_not_change_under_rotation_and_take_no_forces() -> None:
    model, (atoms, *_) = make_model(), molecules()
    before = fingerprint(model)
    turned = atoms.copy()
    turned.positions = turned.positions @ Rotation.random(random_state=1).as_matrix()
    one, other = (
        np.concatenate(list(features(model, graphs([x], model)))) for x in (atoms, turned)
    )
    assert np.abs(one).max() > 0.01 and np.abs(one - other).max() < 1e-9
    torch.save(model, io.BytesIO())  # no hook is left
    assert fingerprint(model) == before


def test_they_are_those_of_the_latest_pass_on_faster_kernels_too() -> None:
    model, made = make_model(), molecules()
    expected = list(features(model, graphs(made, model), 4))
    fuse(model)
    fold(model)
    watched = LastLayer(model)
    for part, batch in zip(expected, batches(graphs(made, model), 4), strict=True):
        with frozen(model):
            model(batch.to_dict())  # with forces, as a calculator does
        assert np.abs(watched().numpy() - part).max() < 1e-10
    assert not np.allclose(expected[0][:5], expected[1][:5])
