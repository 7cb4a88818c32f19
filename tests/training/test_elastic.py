"""Elastic weight consolidation: the penalty is what a change costs on made structures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from lora import load_foundation
from lora.adapters.inject import lora_layers
from lora.data.structures import FORCES, load_structures
from lora.mace.graphs import batches, graphs
from lora.mace.labelling import label
from lora.mace.loss import loss_of
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.settings import TrainSettings
from lora.steps.keep import KeepSettings, keep
from lora.steps.merge import merge
from lora.steps.train import train, train_pack
from lora.training.elastic import Elastic, fisher
from lora.training.setup import prepare
from tests.support.models import make_model, structures
from tests.support.trainings import QUICK, with_files

SETTINGS = TrainSettings(rank=2, energy_weight=3.0, forces_weight=50.0, batch_size=2).resolved()
N = 4


def held(draws: int) -> tuple[nn.Module, list[Atoms], dict[str, torch.Tensor]]:
    """Return a model with adapters, structures that it labelled itself, and their Fisher."""
    model = make_model()
    made = label([x for x in structures(stress=False) if len(x) > 1][:N], model, 2)
    prepare(model, SETTINGS)
    return model, made, fisher(model, SETTINGS, graphs(made, model), draws)


def loss_with(model: nn.Module, made: list[Atoms]) -> float:
    """Return the loss of the model as it stands now, the mean over batches of one structure."""
    loss = loss_of(SETTINGS, next(model.parameters()))
    found = [
        float(loss(pred=model(batch.to_dict(), training=True), ref=batch))
        for batch in batches(graphs(made, model), 1, "cpu")
    ]
    return float(np.mean(found))


def test_a_change_of_one_weight_costs_what_the_penalty_says() -> None:
    """To second order, so a hundredth of the change costs a ten-thousandth."""
    model, made, diagonal = held(draws=150)
    assert loss_with(model, made) == pytest.approx(0, abs=1e-12)
    layers = dict(lora_layers(model))
    assert layers.keys() == diagonal.keys()
    rng = np.random.default_rng(1)
    for name, layer in layers.items():
        largest = int(diagonal[name].argmax())
        for place in (largest, int(rng.integers(diagonal[name].numel()))):
            change = torch.zeros_like(layer.base_weight()).flatten()
            change[place] = 1e-4
            layer.probe = change.view_as(layer.base_weight())
            costs = loss_with(model, made)
            layer.probe = None
            told = Elastic(diagonal, 1.0).penalties([(name, change.view_as(diagonal[name])[None])])
            assert float(told[0]) == pytest.approx(costs, rel=0.2, abs=1e-14), (name, place)


def test_the_penalty_is_a_sum_over_layers_and_one_number_a_point() -> None:
    diagonal = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[4.0]])}
    changes = {"a": torch.tensor([[1.0, 1.0], [0.0, 2.0]]), "b": torch.tensor([[[1.0]], [[3.0]]])}
    found = Elastic(diagonal, 0.5).penalties(changes.items())
    assert [float(x) for x in found] == [0.25 * 7, 0.25 * (8 + 36)]


def test_the_estimate_leaves_the_model_as_it_was_and_comes_again() -> None:
    model, made, once = held(draws=2)
    assert all(layer.probe is None for _, layer in lora_layers(model))
    again = fisher(model, SETTINGS, graphs(made, model), 2)
    assert all(torch.equal(once[x], again[x]) for x in once)
    assert (
        all(float(x.min()) >= 0 for x in once.values()) and sum(map(torch.sum, once.values())) > 0
    )


@pytest.fixture(scope="module")
def kept(files: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keep") / "keep.xyz"
    base = Base(files["foundation"])
    keep(files["train_file"], files["e0s_file"], base, out, KeepSettings(num_samples=12))
    return out


def penalty_alone(**more: object) -> TrainSettings:
    """Return settings that hold weights and train on no made structure."""
    given = QUICK | {"rank": 2, "lr": 0.02, "keep": True, "keep_weight": 0.0} | more
    return TrainSettings(**given)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "dora", "sparse"])
def test_held_weights_change_less_where_it_matters(
    files: dict, inputs: dict, kept: Path, tmp_path: Path, kind: str
) -> None:
    """The more the penalty weighs, the nearer are the forces to the foundation model's."""
    made = load_structures(kept)
    truth = np.concatenate([atoms.arrays[FORCES] for atoms in made])
    off = []
    for penalty in (1e-6, 100.0, 1e5):
        out, model = tmp_path / str(penalty), tmp_path / f"{penalty}.model"
        one = penalty_alone(method=kind, keep_penalty=penalty)
        found = train(one, out=out, **with_files(inputs, keep=kept))
        assert found["n_keep"] == 0
        merge(Base(files["foundation"]), files["valid_file"], {model: out / "adapter"})
        merged = load_foundation(model)
        forces = predict(merged, graphs(made, merged))["forces"]
        off.append(float(np.sqrt(np.mean((forces - truth) ** 2))))
    assert off[2] < 0.8 * off[0] and off[2] < off[1] < off[0]


@pytest.mark.slow
def test_a_held_point_in_a_pack_is_the_point_alone(
    inputs: dict, kept: Path, tmp_path: Path
) -> None:
    one = penalty_alone(keep_penalty=5.0, keep_weight=0.5)
    points = {tmp_path / "a": one, tmp_path / "b": replace(one, rank=1, alpha=4.0)}
    data = with_files(inputs, keep=kept)
    packed = train_pack(points, work=tmp_path / "w", **data)
    for (out, settings), together in zip(points.items(), packed, strict=True):
        alone = train(settings, out=tmp_path / f"{out.name}1", **data)
        for x in ("train_loss", "valid_loss"):
            assert together["best"][x] == pytest.approx(alone["best"][x], rel=1e-8)
    without = train(replace(one, keep_penalty=0.0), out=tmp_path / "c", **data)
    assert without["best"]["valid_loss"] != pytest.approx(packed[0]["best"]["valid_loss"], rel=1e-6)


@pytest.mark.slow
def test_a_held_point_with_whole_modules_trains(inputs: dict, kept: Path, tmp_path: Path) -> None:
    targets = {"modules_to_save": ["readouts.*"]}
    one = TrainSettings.from_dict(penalty_alone(keep_penalty=5.0).to_dict() | {"targets": targets})
    data = with_files(inputs, keep=kept)
    little, much = (
        train(replace(one, keep_penalty=p), out=tmp_path / str(p), **data)["best"]["valid_loss"]
        for p in (1e-6, 1e3)
    )
    assert little != pytest.approx(much, rel=1e-6)
