"""Losses: MACE's own, where weights count in all of them and missing labels in none."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from lora.catalogue.methods import LOSSES
from lora.data.labels import ENERGY, FORCES, STRESS, VIRIALS
from lora.data.structures import read_structures
from lora.mace.door import default_dtype, upstream
from lora.mace.graphs import batches, graphs
from lora.mace.loss import loss_of, measure_of
from lora.plan.settings import TrainSettings
from tests.support.labels import mixed, with_holes
from tests.support.models import make_model

LIKE = torch.zeros((), dtype=torch.float64)
MODEL = make_model()
WEIGHTS = {"energy_weight": 2.0, "forces_weight": 30.0, "stress_weight": 5.0, "virials_weight": 3.0}


def settings(loss: str, **own: float) -> TrainSettings:
    return TrainSettings(loss=loss, **(WEIGHTS | own)).resolved()


def their_batch(path: Path) -> object:
    """A batch of a file as mace_run_train loads it."""
    data, tools = upstream("mace.data"), upstream("mace.tools")
    _, configs = data.load_from_xyz(
        str(path), key_specification=data.KeySpecification.from_defaults()
    )
    table = tools.AtomicNumberTable([int(z) for z in MODEL.atomic_numbers])
    with default_dtype(torch.float64):
        made = [
            data.AtomicData.from_config(x, z_table=table, cutoff=float(MODEL.r_max))
            for x in configs
        ]
    return upstream("mace.tools.torch_geometric").Batch.from_data_list(made)


def outputs(structures: list[Atoms], seed: int = 0) -> dict[str, torch.Tensor]:
    """What a model could predict, off by a little and by much."""
    rng, n = np.random.default_rng(seed), len(structures)
    atoms = sum(map(len, structures))
    shapes = {"energy": (n,), "forces": (atoms, 3), "stress": (n, 3, 3), "virials": (n, 3, 3)}
    found = {k: torch.tensor(rng.normal(scale=0.1, size=x)) for k, x in shapes.items()}
    energies = [a.info.get(ENERGY, 0.0) for a in structures]
    found["energy"] += torch.tensor(energies, dtype=torch.float64)
    return {k: v.requires_grad_() for k, v in found.items()}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_maces_own_for_the_same_file(loss: str, tmp_path: Path) -> None:
    """Labels missing where MACE's loss knows of that; all labels where it does not."""
    blind = loss in ("huber", "l1l2energyforces")
    structures = mixed(8)[::2] if blind else with_holes(mixed(12))
    ase.io.write(tmp_path / "dft.xyz", structures, format="extxyz")
    read = read_structures(tmp_path / "dft.xyz")
    ours = next(batches(graphs(read, MODEL), 32))
    mine, own = loss_of(settings(loss), LIKE), settings(loss)
    with default_dtype(torch.float64):
        theirs = upstream("mace.tools.scripts_utils").get_loss_fn(own, False, False)
    pred = outputs(read)
    expected = theirs(ref=their_batch(tmp_path / "dft.xyz"), pred=pred)
    assert float(mine(ref=ours, pred=pred)) == pytest.approx(float(expected), rel=1e-12)
    assert float(expected) > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_labels_give_no_gradient(loss: str) -> None:
    structures = with_holes(mixed(12))
    batch, pred = next(batches(graphs(structures, MODEL), 32)), outputs(structures)
    loss_of(settings(loss), LIKE)(ref=batch, pred=pred).backward()
    of_atom = np.repeat(np.arange(len(structures)), [len(a) for a in structures])
    there = {
        "energy": np.array([ENERGY in a.info for a in structures]),
        "forces": np.array([FORCES in structures[i].arrays for i in of_atom]),
        "stress": np.array([STRESS in a.info for a in structures]),
        "virials": np.array([VIRIALS in a.info for a in structures]),
    }
    for name in settings(loss).terms:
        gradient = pred[name].grad.abs().reshape(len(there[name]), -1).sum(1).numpy()
        assert (gradient[there[name]] > 0).all() and not gradient[~there[name]].any(), name


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_structures_count_in_every_loss(loss: str) -> None:
    """A structure of weight 0 is not there, one of a small weight says less."""
    structures = mixed(6)
    pred = outputs(structures)
    function = loss_of(settings(loss), LIKE)

    def value(**info: float) -> float:
        changed = [atoms.copy() for atoms in structures]
        changed[0].info |= info
        return float(function(ref=next(batches(graphs(changed, MODEL), 32)), pred=pred))

    alone = {x: value(**{f"config_{x}_weight": 0.0}) for x in settings(loss).terms}
    none, less, full = (value(config_weight=w) for w in (0.0, 0.5, 1.0))
    assert none < less < full == value()
    assert none <= min(alone.values()) and max(alone.values()) < full


def test_errors_of_a_validation_are_of_what_is_there() -> None:
    structures = with_holes(mixed(12))
    pred = {k: v.detach() for k, v in outputs(structures).items()}
    measure = measure_of(loss_of(settings("weighted"), LIKE), LIKE)
    measure.update(next(batches(graphs(structures, MODEL), 32)), pred)
    errors = measure.compute()[1]
    difference = [
        (float(pred["energy"][i]) - a.info[ENERGY]) / len(a)
        for i, a in enumerate(structures)
        if ENERGY in a.info
    ]
    assert errors["rmse_e_per_atom"] == pytest.approx(np.sqrt(np.mean(np.square(difference))))
    for atoms in structures:
        atoms.arrays.pop(FORCES, None)
    measure = measure_of(loss_of(settings("weighted"), LIKE), LIKE)
    measure.update(next(batches(graphs(structures, MODEL), 32)), pred)
    assert "rmse_f" not in measure.compute()[1]
