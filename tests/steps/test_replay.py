"""Replay: two heads that start equal, one shipped; what the foundation knew is kept better."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lora import load_foundation
from lora.adapters.inject import inject_lora, lora_layers, merge_lora_weights
from lora.adapters.saved import load_adapted, load_adapter
from lora.data.origin import origin_of
from lora.data.structures import ENERGY, FORCES, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import read_json
from lora.mace.door import default_dtype
from lora.mace.elements import get_e0s, set_e0s
from lora.mace.graphs import graphs
from lora.mace.heads import REPLAY, mark_replay, own_head, two_heads
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.settings import TrainSettings
from lora.steps.merge import merge
from lora.steps.replay import ReplaySettings, replay
from lora.steps.train import train, train_pack
from tests.support import counts
from tests.support.models import BASE, CASES, Case, make_model, perturb
from tests.support.trainings import QUICK, lines_of, teacher_data, with_files

SCALE_SHIFT = [c for c in CASES if c.cls == "ScaleShiftMACE" and len(c.heads) == 1]


def energies_of(model: torch.nn.Module, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    with default_dtype(torch.float64):  # as MACE's calculator leaves it; no prediction needs it
        out = predict(model, graphs(structures, model))
    return out["energy"], out["forces"]


@pytest.mark.long
@pytest.mark.parametrize("case", SCALE_SHIFT[:: counts.of(2, 1)], ids=lambda c: c.name)
def test_both_heads_start_as_the_model_and_part(case: Case) -> None:
    base = make_model(case)
    structures = [molecule("CH3CHO"), molecule("HCN")]
    for atoms in structures:
        atoms.rattle(0.05, seed=3)
    energy, forces = energies_of(base, structures)
    model, bound = two_heads(base), 1e-12 if case.dtype == torch.float64 else 1e-5
    assert model.heads == [base.heads[0], REPLAY]
    marked = mark_replay(structures, 1.0)
    for some in (structures, marked):
        found = energies_of(model, some)
        assert np.abs(found[0] / energy - 1).max() < bound
        assert np.abs(found[1] - forces).max() < bound * max(1.0, np.abs(forces).max())

    set_e0s(model, {"H": get_e0s(model)["H"] + 1.0})  # of the own head alone
    shifted, kept = energies_of(model, structures)[0], energies_of(model, marked)[0]
    hydrogens = np.array([4.0, 1.0])
    assert shifted - energy == pytest.approx(hydrogens, rel=1e-5)
    assert kept == pytest.approx(energy, rel=1e-6)

    inject_lora(model, rank=2)
    perturb(model, size=0.3)
    own, old = energies_of(model, structures), energies_of(model, marked)
    assert np.abs(own[1] - forces).max() > 1e-3 and np.abs(own[1] - old[1]).max() > 1e-4
    single = own_head(merge_lora_weights(model), base)
    assert type(single) is type(base)
    shapes = {k: v.shape for k, v in base.state_dict().items()}
    assert {k: v.shape for k, v in single.state_dict().items()} == shapes
    found = energies_of(single, structures)
    tolerance = 1e-9 if case.dtype == torch.float64 else 1e-3
    assert np.abs(found[0] - own[0]).max() < tolerance
    assert np.abs(found[1] - own[1]).max() < tolerance


def test_a_base_whose_head_has_the_name_of_the_replayed_one() -> None:
    """As a model that was fine-tuned with replay before: both heads would have one name."""
    base = make_model(replace(BASE, heads=(REPLAY,)))
    structures = [molecule("CH3CHO"), molecule("HCN")]
    model = two_heads(base)
    assert model.heads == ["Default", REPLAY]
    set_e0s(model, {"H": get_e0s(model)["H"] + 1.0})
    marked = mark_replay(structures, 1.0)
    old = energies_of(base, structures)[0]
    new, kept = energies_of(model, structures)[0], energies_of(model, marked)[0]
    assert new - old == pytest.approx([4.0, 1.0]) and kept == pytest.approx(old, rel=1e-9)


def test_a_model_that_gets_no_heads_is_said() -> None:
    case = next(c for c in CASES if c.cls == "MACE")
    with pytest.raises(UserError, match="replay: MACE gives no second head to a MACE"):
        two_heads(make_model(case))


@pytest.fixture
def replayed(files: dict, tmp_path: Path) -> Path:
    """Other molecules, labelled by the foundation model itself."""
    shapes = [molecule(name) for name in ("CH3OH", "HCN", "CH4", "H2O", "N2", "CO2") * 2]
    for i, atoms in enumerate(shapes):
        atoms.rattle(0.08, seed=i)
    write_structures(tmp_path / "other.xyz", [*shapes, Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])])
    found = replay(tmp_path / "other.xyz", Base(files["foundation"]), tmp_path / "replay.xyz")
    assert found == {"n_structures": 12, "labels": "foundation", "left_out": 1}
    assert read_json(tmp_path / "replay.json") == found
    return tmp_path / "replay.xyz"


def forgotten(folder: Path, foundation: Path, replayed: Path) -> float:
    """Force error (eV/Å) of the replay head of a trained point on what the foundation said."""
    structures = load_structures(replayed)
    model = load_adapted(load_foundation(foundation), folder)
    forces = energies_of(model, mark_replay(structures, 1.0))[1]
    truth = np.concatenate([atoms.arrays[FORCES] for atoms in structures])
    return float(np.sqrt(np.mean((forces - truth) ** 2)))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "full"][: counts.of(1, 2)])
def test_the_replay_head_remembers_and_the_own_head_is_shipped(
    files: dict,
    inputs: dict,
    replayed: Path,
    tmp_path: Path,
    method: str,
) -> None:
    rate = {"lora": 0.02, "full": 0.002}[method]
    one = TrainSettings(method=method, rank=2, lr=rate, **QUICK | {"max_num_epochs": 12})
    error = {}
    for weight in (0.0, 1.0):
        settings = replace(one, replay=True, replay_weight=weight)
        out, model = tmp_path / f"{weight:g}", tmp_path / f"{weight:g}.model"
        found = train(settings, out=out, **with_files(inputs, replay=replayed))
        assert found["n_replay"] == 12
        assert found["best"]["valid_loss"] < 0.9 * lines_of(out)[0]["valid_loss"]
        error[weight] = forgotten(out / "adapter", files["foundation"], replayed)

        (proof,) = merge(Base(files["foundation"]), files["valid_file"], {model: out / "adapter"})
        assert max(proof["max_abs_difference"].values()) < 1e-9
        assert proof["fine_tuned_elements"] == ["C", "H", "O"]  # N was replayed only
        merged, base = load_foundation(model), load_foundation(files["foundation"])
        shapes = {k: v.shape for k, v in base.state_dict().items()}
        assert {k: v.shape for k, v in merged.state_dict().items()} == shapes
        assert merged.heads == base.heads
        valid = load_structures(files["valid_file"])
        truth = np.concatenate([atoms.arrays[FORCES] for atoms in valid])
        rmse = np.sqrt(np.mean((energies_of(merged, valid)[1] - truth) ** 2))
        assert 1e3 * rmse == pytest.approx(found["best"]["valid_rmse_f_mev_per_a"], rel=1e-6)
    assert error[1.0] < 0.5 * error[0.0]


@pytest.mark.slow
def test_a_replayed_point_in_a_pack_is_the_point_alone(
    files: dict,
    inputs: dict,
    replayed: Path,
    tmp_path: Path,
) -> None:
    one = TrainSettings(rank=2, lr=0.02, replay=True, replay_weight=0.5, **QUICK)
    points = {tmp_path / "a": one, tmp_path / "b": replace(one, rank=1, alpha=4.0)}
    packed = train_pack(points, work=tmp_path / "w", **with_files(inputs, replay=replayed))
    for (out, settings), together in zip(points.items(), packed, strict=True):
        alone = train(
            settings, out=tmp_path / f"{out.name}1", **with_files(inputs, replay=replayed)
        )
        assert together["best"]["valid_loss"] == pytest.approx(
            alone["best"]["valid_loss"], rel=1e-8
        )
    other = replace(one, replay_weight=5.0)
    heavier = train(other, out=tmp_path / "c", **with_files(inputs, replay=replayed))
    assert heavier["best"]["valid_loss"] != pytest.approx(packed[0]["best"]["valid_loss"], rel=1e-6)

    base = load_foundation(files["foundation"])
    with pytest.raises(UserError, match="was trained with replay and has two heads"):
        load_adapter(copy.deepcopy(base), tmp_path / "a/adapter")
    assert len(list(lora_layers(load_adapted(base, tmp_path / "a/adapter")))) > 5


def test_labels_of_replay(files: dict, inputs: dict, replayed: Path, tmp_path: Path) -> None:
    """The foundation's are its predictions; the file's are kept; as many as are asked for."""
    structures = load_structures(replayed)
    model = load_foundation(files["foundation"])
    energy, _ = energies_of(model, structures)
    assert [a.info[ENERGY] for a in structures] == pytest.approx(energy.tolist(), abs=1e-9)
    write_structures(tmp_path / "own.xyz", teacher_data(5, seed=4))
    base, few = Base(files["foundation"]), ReplaySettings("file", num_samples=3)
    found = replay(tmp_path / "own.xyz", base, tmp_path / "r.xyz", few)
    assert found["n_structures"] == 3
    kept = {a.info[ENERGY] for a in load_structures(tmp_path / "r.xyz")}
    own = load_structures(tmp_path / "own.xyz")
    assert kept < {a.info[ENERGY] for a in own}
    for name, file in (("r", tmp_path / "own.xyz"), ("replay", replayed.with_name("other.xyz"))):
        path = tmp_path / f"{name}.xyz" if name == "r" else replayed
        sources = load_structures(file)
        for atoms in load_structures(path):  # labelled or not, each says where it comes from
            origin = origin_of(atoms)
            assert origin.file == str(file)
            assert np.allclose(sources[origin.frame].positions, atoms.positions, atol=1e-7)
    with pytest.raises(UserError, match="holds no structure of the foundation model's elements"):
        write_structures(tmp_path / "cu.xyz", [Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])])
        replay(tmp_path / "cu.xyz", base, tmp_path / "r.xyz")
    settings = TrainSettings(replay=True, **QUICK)
    with pytest.raises(UserError, match=r"needs structures to replay; set replay\.file"):
        train(settings, out=tmp_path / "x", **inputs)
