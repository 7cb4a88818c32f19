"""The terms of a loss against the labels of the data: refused, said, or trained without."""

import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from lora.data.held import Joined
from lora.data.labels import ENERGY, FORCES, STRESS, VIRIALS, counts
from lora.data.structures import write_structures
from lora.errors import UserError
from lora.plan.settings import TrainSettings
from lora.steps.train import train
from lora.training.terms import check_terms, say_rounding
from tests.support.labels import mixed, with_holes
from tests.support.trainings import QUICK, lines_of, teacher_data, with_files


def checked(train_set: list[Atoms], valid: list[Atoms] | None = None, **own: object) -> None:
    check_terms(TrainSettings(**own).resolved(), train_set, valid or train_set, "train.xyz")


def without(structures: list[Atoms], *keys: str) -> list[Atoms]:
    for atoms in structures:
        for key in keys:
            atoms.info.pop(key, None)
            atoms.arrays.pop(key, None)
    return structures


@pytest.mark.parametrize(
    ("gone", "loss", "term"),
    [
        ((ENERGY,), "weighted", "energy"),
        ((FORCES,), "weighted", "forces"),
        ((FORCES,), "forces_only", "forces"),
        ((STRESS, VIRIALS), "stress", "stress"),
        ((STRESS, VIRIALS), "virials", "virials"),
        ((FORCES,), "huber", "forces"),
    ],
)
def test_a_loss_whose_label_nobody_has_is_refused(gone, loss: str, term: str) -> None:
    few = without(mixed(4), *gone)
    with pytest.raises(
        UserError, match=f"train.xyz: the loss {loss} needs {term}.*data.{term}_key"
    ):
        checked(few, loss=loss)
    with pytest.raises(UserError, match=f"needs {term}"):  # a weight of zero is as good as none
        checked([_weighed(a, **{f"config_{term}_weight": 0.0}) for a in mixed(4)], loss=loss)
    if loss != "forces_only":
        checked(few, loss=loss, **{f"{term}_weight": 0.0})
    checked(mixed(4), loss=loss)
    checked(without(mixed(4)[:1], *gone) + mixed(4)[:1], loss=loss)  # one has it


def test_sets_that_are_not_held_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    """As those of more than 10,000 structures."""
    caplog.set_level(logging.INFO)
    few = without([x for x in mixed(8) if x.cell.rank == 3], STRESS)
    for atoms in few:
        atoms.info[VIRIALS] = np.eye(3)
    check_terms(TrainSettings(loss="stress").resolved(), Joined(few), few, "train.xyz")
    check_terms(TrainSettings(loss="stress").resolved(), few, few, "train.xyz")
    said = [x for x in caplog.messages if "-virials / volume" in x]
    assert len(said) == 2 and len(set(said)) == 1


def _weighed(atoms: Atoms, **info: float) -> Atoms:
    atoms.info |= info
    return atoms


def test_molecules_can_have_the_losses_for_crystals_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for loss in ("huber", "universal"):
        checked(mixed(8)[1::2], loss=loss)
        assert caplog.records.pop().levelname == "INFO"
        checked(without(mixed(8), STRESS, VIRIALS), loss=loss)  # crystals without stress
        record = caplog.records.pop()
        assert record.levelname == "WARNING" and "no structure has a stress" in record.message


def test_a_stress_that_only_the_foundation_model_has_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain, made = without(mixed(8), STRESS, VIRIALS), mixed(8)
    settings = TrainSettings(loss="universal").resolved()
    check_terms(settings, plain, plain, "train.xyz", made)
    (record,) = caplog.records
    n = sum(counts(atoms, "stress") for atoms in made)
    assert n and f"that of the {n} structures alone that the foundation" in record.message


def test_what_is_computed_or_not_validated_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    checked(without(mixed(4), VIRIALS), loss="virials")
    assert "virials of 4 structures are -stress x volume" in caplog.text
    checked(without(mixed(4), STRESS), loss="stress")
    assert "stress of 4 structures are -virials / volume" in caplog.text
    checked(mixed(4), without(mixed(4), FORCES))
    assert "no structure of the validation set has forces" in caplog.text
    with pytest.raises(UserError, match="no structure of the validation set has a label"):
        checked(mixed(4), without(mixed(4), FORCES, ENERGY))


def test_rounding_of_large_energies_is_said(caplog: pytest.LogCaptureFixture) -> None:
    few = mixed(4)
    say_rounding(few, "float32")
    for atoms in few:
        atoms.info[ENERGY] -= 45000.0 * len(atoms)
    say_rounding(few, "float64")
    assert not caplog.records
    say_rounding(few, "float32")
    assert "float32 rounds energies of 4.5e+04 eV/atom by up to 2.7 meV/atom" in caplog.text


@pytest.mark.parametrize("loss", ["weighted", "huber", "universal", "virials"])
def test_training_on_crystals_and_molecules_with_gaps(
    inputs: dict, tmp_path: Path, loss: str
) -> None:
    """It trains, and the first validation measures what is there."""
    write_structures(tmp_path / "train.xyz", with_holes(mixed(9)))
    write_structures(tmp_path / "valid.xyz", with_holes(mixed(6, seed=1)))
    own = with_files(inputs, train=tmp_path / "train.xyz", valid=tmp_path / "valid.xyz")
    settings = TrainSettings(rank=2, loss=loss, **(QUICK | {"max_num_epochs": 1}))
    train(settings, **own, out=tmp_path / "p")
    first, last = lines_of(tmp_path / "p")
    assert np.isfinite(last["train_loss"]) and first["valid_loss"] > 0
    assert first["valid_rmse_e_mev_per_atom"] < 1e5 and first["valid_rmse_f_mev_per_a"] > 0


def test_training_on_energies_alone(inputs: dict, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        write_structures(tmp_path / f"{name}.xyz", without(teacher_data(4, seed=2), FORCES))
    own = with_files(inputs, train=tmp_path / "train.xyz", valid=tmp_path / "valid.xyz")
    settings = {"rank": 2} | QUICK | {"max_num_epochs": 2}
    with pytest.raises(UserError, match="needs forces"):
        train(TrainSettings(**settings), **own, out=tmp_path / "p")
    train(TrainSettings(forces_weight=0.0, **settings), **own, out=tmp_path / "p")
    assert [x["valid_rmse_f_mev_per_a"] for x in lines_of(tmp_path / "p")] == [None] * 3


def test_one_gap_changes_nothing_else(inputs: dict, tmp_path: Path) -> None:
    """A structure without any label trains nothing: steps are as if its weight were zero."""
    losses = []
    for name in ("gap", "weight"):
        structures = teacher_data(6, seed=3)
        if name == "gap":
            without(structures[:1], ENERGY, FORCES)
        else:
            structures[0].info["config_weight"] = 0.0
        write_structures(tmp_path / f"{name}.xyz", structures)
        own = with_files(inputs, train=tmp_path / f"{name}.xyz")
        train(TrainSettings(rank=2, **QUICK), **own, out=tmp_path / name)
        losses.append([x["valid_loss"] for x in lines_of(tmp_path / name)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
