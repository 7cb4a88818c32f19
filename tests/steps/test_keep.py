"""Keep: structures around the training set, labelled by the base; less is forgotten with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from lora import load_foundation
from lora.catalogue.made import CANDIDATES, NAMES
from lora.cli.main import main
from lora.data.around import fits
from lora.data.structures import ENERGY, FORCES, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import digest, read_json, write_sealed
from lora.mace.elements import get_e0s
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.settings import TrainSettings
from lora.steps.keep import STRONG, KeepSettings, keep
from lora.steps.merge import merge
from lora.steps.train import train, train_pack
from tests.support.models import make_model
from tests.support.trainings import QUICK, with_files

N = 12
FEW = KeepSettings(num_samples=N)
SHIFT = {"H": 1.5, "C": -2.0, "O": 0.25}  # eV; of the new E0s against the base's


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """E0s of another level of theory."""
    path = tmp_path_factory.mktemp("e0s") / "e0s.json"
    own = get_e0s(make_model())
    write_sealed(path, {"E0s": {x: own[x] + more for x, more in SHIFT.items()}})
    return path


@pytest.fixture(scope="module")
def kept(files: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keep") / "keep.xyz"
    keep(files["train_file"], files["e0s_file"], Base(files["foundation"]), out, FEW)
    return out


def forces_off(model_file: Path, structures: list[Atoms]) -> float:
    """Return how far forces of a model are from the labels (RMSE, eV/Å)."""
    model = load_foundation(model_file)
    truth = np.concatenate([atoms.arrays[FORCES] for atoms in structures])
    found = predict(model, graphs(structures, model))["forces"]
    return float(np.sqrt(np.mean((found - truth) ** 2)))


def test_made_labelled_chosen_and_said(
    files: dict, shifted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, out = Base(files["foundation"]), tmp_path / "keep.xyz"
    with caplog.at_level("INFO"):
        found = keep(files["train_file"], shifted, base, out, FEW)
    assert read_json(tmp_path / "keep.json") == found
    assert found["n_structures"] == N and found["seed"] == 0
    assert list(found["kinds"]) == list(NAMES)
    for name, n in found["kinds"].items():
        assert 0 < n["made"] <= CANDIDATES * N / len(NAMES) + 1 and n["chosen"] <= n["sound"]
        assert f"{name}: {n['made']} made, {n['sound']} sound, {n['chosen']} chosen" in caplog.text
    assert sum(n["chosen"] for n in found["kinds"].values()) == N

    structures = load_structures(out)
    kinds = [atoms.info["config_type"] for atoms in structures]
    assert {x: kinds.count(x) for x in NAMES} == {x: n["chosen"] for x, n in found["kinds"].items()}
    model = load_foundation(files["foundation"])
    own = predict(model, graphs(structures, model))
    more = [sum(SHIFT[x] for x in atoms.symbols) for atoms in structures]
    assert [x.info[ENERGY] for x in structures] == pytest.approx(own["energy"] + more, abs=1e-7)
    forces = np.concatenate([atoms.arrays[FORCES] for atoms in structures])
    assert forces == pytest.approx(own["forces"], abs=1e-7) and np.abs(forces).max() <= STRONG
    assert all(map(fits, structures))
    assert len({str(atoms.symbols) for atoms in structures}) > 3

    again = keep(files["train_file"], shifted, base, tmp_path / "again.xyz", FEW)
    assert again == found and digest(tmp_path / "again.xyz") == digest(out)
    other = replace(FEW, seed=1, kinds=("rattled", "strained"))
    assert set(keep(files["train_file"], shifted, base, tmp_path / "o.xyz", other)["kinds"]) == {
        *("rattled", "strained")
    }
    assert digest(tmp_path / "o.xyz") != digest(out)


def test_the_farthest_are_chosen(files: dict, tmp_path: Path) -> None:
    """Those of other compositions lie farther from the training set than rattled ones."""
    base = Base(files["foundation"])
    two = KeepSettings(num_samples=10, kinds=("rattled", "changed"))
    n = keep(files["train_file"], files["e0s_file"], base, tmp_path / "k.xyz", two)["kinds"]
    assert n["rattled"]["sound"] > 10 and n["changed"]["chosen"] > 2 * n["rattled"]["chosen"]


def test_what_cannot_be_made_is_said(files: dict, tmp_path: Path) -> None:
    base, out = Base(files["foundation"]), tmp_path / "k.xyz"
    write_structures(tmp_path / "atom.xyz", [Atoms("H")])
    with pytest.raises(UserError, match="has no structure of two atoms or more"):
        keep(tmp_path / "atom.xyz", files["e0s_file"], base, out, FEW)
    with pytest.raises(UserError, match=r"keep\.kinds: 'melted' is not known; use rattled, "):
        keep(files["train_file"], files["e0s_file"], base, out, KeepSettings(kinds=("melted",)))
    near = Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])
    write_structures(tmp_path / "near.xyz", [near])
    with pytest.raises(UserError, match="no sound structure of the kinds strained can be made"):
        one = replace(FEW, kinds=("strained",))
        keep(tmp_path / "near.xyz", files["e0s_file"], base, out, one)


@pytest.mark.slow
def test_less_is_forgotten_with_one_head(
    files: dict, inputs: dict, kept: Path, tmp_path: Path
) -> None:
    """On molecules that no file of the training holds, labelled by the base."""
    base = load_foundation(files["foundation"])
    others = [molecule(x) for x in ("CH3OH", "CO2", "C2H4", "H2O", "CH4", "CH3OCH3")]
    for i, atoms in enumerate(others):
        atoms.rattle(0.05, seed=i)
        atoms.arrays[FORCES] = predict(base, graphs([atoms], base))["forces"]
    forgotten = {}
    settings = TrainSettings(rank=2, lr=0.02, **QUICK | {"max_num_epochs": 10})
    keeps = replace(settings, keep=True, keep_weight=1.0)
    for name, one in {"plain": settings, "keep": keeps}.items():
        out, model = tmp_path / name, tmp_path / f"{name}.model"
        found = train(one, out=out, **with_files(inputs, keep=kept))
        assert found["n_keep"] == (N if one.keep else 0) and found["n_replay"] == 0
        merge(Base(files["foundation"]), files["valid_file"], {model: out / "adapter"})
        assert load_foundation(model).heads == base.heads
        forgotten[name] = forces_off(model, others)
    assert forgotten["keep"] < 0.7 * forgotten["plain"]


@pytest.mark.slow
def test_a_kept_point_in_a_pack_is_the_point_alone(
    files: dict, inputs: dict, kept: Path, tmp_path: Path
) -> None:
    one = TrainSettings(rank=2, lr=0.02, keep=True, keep_weight=0.5, **QUICK)
    points = {tmp_path / "a": one, tmp_path / "b": replace(one, rank=1, alpha=4.0)}
    data = with_files(inputs, keep=kept)
    packed = train_pack(points, work=tmp_path / "w", **data)
    for (out, settings), together in zip(points.items(), packed, strict=True):
        alone = train(settings, out=tmp_path / f"{out.name}1", **data)
        assert together["best"]["valid_loss"] == pytest.approx(
            alone["best"]["valid_loss"], rel=1e-8
        )
    heavier = train(replace(one, keep_weight=5.0), out=tmp_path / "c", **data)
    assert heavier["best"]["valid_loss"] != pytest.approx(packed[0]["best"]["valid_loss"], rel=1e-6)
    with pytest.raises(UserError, match="keep: true needs made structures"):
        train(one, out=tmp_path / "x", **inputs)


def test_the_command_by_hand(files: dict, tmp_path: Path) -> None:
    given = ["--foundation", files["foundation"], "--e0s_file", files["e0s_file"]]
    more = ["--kinds", "strained", "heated", "--temperatures", "50", "--num_samples", "2"]
    command = ["keep", files["train_file"], *given, *more, "--out", tmp_path / "k.xyz"]
    assert main([str(x) for x in command]) == 0
    found = read_json(tmp_path / "k.json")
    assert list(found["kinds"]) == ["strained", "heated"] and found["n_structures"] == 2
