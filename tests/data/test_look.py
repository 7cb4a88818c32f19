"""What files hold, and the config that follows: labels, order, kinds, free atoms, sizes."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from lora.data.kinds import kind_of
from lora.data.look import Look, look
from lora.data.proposal import proposal
from lora.data.trajectory import memory
from lora.errors import UserError
from lora.plan.config import Config
from tests.support.frames import crystals, free_atoms, labelled, molecules


def seen(tmp_path: Path, frames: list[Atoms], **keys: str) -> Look:
    path = tmp_path / "some data.xyz"
    ase.io.write(path, frames, format="extxyz")
    return look(path, keys)


def config(found: Look) -> tuple[dict, str]:
    draft = proposal(found, "small")
    values = yaml.safe_load(draft.text())
    assert values == draft.values()
    Config.model_validate(values)
    return values, " ".join(draft.text().replace("# ", " ").split())


# --- labels


def test_our_own_names_need_no_keys(tmp_path: Path) -> None:
    values, text = config(seen(tmp_path, labelled(molecules(200))))
    assert values["data"] == {"file": str(tmp_path / "some data.xyz")}
    assert values["results"] == "results_some_data" and "split" not in values
    assert "weighted: energies and forces" in text and "eos has nothing to measure" in text
    assert values["train"] == {"batch_size": 2, "max_num_epochs": 120}  # of 80 steps


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["REF_energy", "energy", "dft_energy"], "REF_energy"),
        (["dft_energy", "mystery_energy"], "dft_energy"),
        (["TotEnergy", "kinetic_energy", "config_energy_weight"], "TotEnergy"),
        (["free_energy", "energy"], "energy"),
        (["ref_pbe_energy", "qm_energy"], "ref_pbe_energy"),
    ],
)
def test_the_best_of_several_names_is_said(tmp_path: Path, names: list[str], chosen: str) -> None:
    frames = labelled(molecules(30), names[0], "REF_forces", **dict.fromkeys(names[1:], 2.0))
    found = seen(tmp_path, frames)
    label = found.labels["energy"]
    assert label.name == chosen
    draft = proposal(found, "small")
    assert draft.values()["data"].get("energy_key", "REF_energy") == chosen
    assert len(draft.doubts) == bool(label.others)
    for other in label.others:
        assert f"data.energy_key: {chosen} is taken, because" in draft.doubts[0]
        assert other in draft.doubts[0]


def test_forces_go_with_the_energy(tmp_path: Path) -> None:
    frames = labelled(molecules(10), "pbe_energy", "pbe_forces")
    for atoms in frames:
        atoms.arrays["dft_forces"] = np.ones((9, 3))
        atoms.arrays["momenta"] = np.ones((9, 3))
    label = seen(tmp_path, frames).labels["forces"]
    assert (label.name, label.others, label.why) == (
        "pbe_forces",
        ("dft_forces",),
        "it goes with the energy",
    )


def test_a_name_that_more_structures_have_wins(tmp_path: Path) -> None:
    frames = labelled(molecules(10), "energy_b")
    frames[0].info["REF_energy"] = -1.0
    label = seen(tmp_path, frames).labels["energy"]
    assert (label.name, label.why) == ("energy_b", "more structures have it")


def test_names_that_the_user_says_win(tmp_path: Path) -> None:
    frames = labelled(molecules(10), "REF_energy", "F", odd=3.5)
    for atoms in frames:
        atoms.arrays["gradient"] = -np.ones((9, 3))
    found = seen(tmp_path, frames, energy="odd")
    assert found.labels["energy"].name == "odd" and found.labels["forces"].name == "F"
    with pytest.raises(UserError, match="no structure has none; its keys are .*; name them by --e"):
        seen(tmp_path, frames, energy="none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.info.clear(), "no structure has energy; its keys are REF_forces"),
        (lambda x: x.info.update(REF_energy="-1.0D+01"), r"REF_energy is '-1.0D\+01', not a num"),
        (lambda x: x.arrays.pop("REF_forces"), "no structure has forces; .* in Properties; name"),
        (
            lambda x: x.arrays.update(REF_forces=np.zeros((9, 2))),
            r"REF_forces has the shape \(9, 2\), not three",
        ),
    ],
    ids=["no_energy", "text", "no_forces", "two_columns"],
)
def test_what_cannot_be_trained_on_is_a_line(tmp_path: Path, spoil, message: str) -> None:
    frames = labelled(molecules(4))
    for atoms in frames:
        spoil(atoms)
    with pytest.raises(UserError, match=message) as caught:
        seen(tmp_path, frames)
    assert "\n" not in str(caught.value)


def test_missing_labels_are_counted(tmp_path: Path) -> None:
    frames = labelled(molecules(10))
    del frames[3].info["REF_energy"]
    assert proposal(seen(tmp_path, frames), "small").doubts == [
        "data.energy_key: 1 of 10 structures have no REF_energy: they have weight 0."
    ]


# --- loss


def test_crystals_with_a_stress(tmp_path: Path) -> None:
    values, text = config(seen(tmp_path, labelled(crystals(900), REF_stress=np.ones(6))))
    assert values["train"] == {
        "loss": "universal",
        "forces_weight": 10,
        "stress_weight": 100,
        "max_num_epochs": 140,  # 72 steps of 10
    }
    assert "extensivity and locality have nothing to measure" in text


@pytest.mark.parametrize("name", ["REF_stress", "dft_virials"])
def test_a_stress_that_some_lack_is_trained_on(tmp_path: Path, name: str) -> None:
    frames = labelled(crystals(20), **{name: np.ones(6)}) + labelled(molecules(5))
    values, text = config(seen(tmp_path, frames))
    assert values["train"]["loss"] == "universal"
    assert f"20 structures have {name}. MACE's weights for this loss." in text
    assert f"5 of 25 structures have no {name}: they have weight 0" in text
    assert values["data"].get("virials_key") == (name if "virials" in name else None)


def test_a_stress_of_molecules_is_not_trained_on(tmp_path: Path) -> None:
    values, text = config(seen(tmp_path, labelled(molecules(20), REF_stress=np.ones(6))))
    assert "loss" not in values["train"] and "that of molecules means nothing" in text


# --- E0s


def test_free_atoms_of_all_elements(tmp_path: Path) -> None:
    frames = free_atoms("HCO", config_type="IsolatedAtom") + labelled(molecules(20))
    found = seen(tmp_path, frames)
    values, text = config(found)
    assert found.n == 20 and "e0s" not in values
    assert "auto: those of the free atoms in the file (H, C, O)." in text


def test_free_atoms_of_some_elements(tmp_path: Path) -> None:
    frames = free_atoms("HC", config_type="IsolatedAtom") + labelled(molecules(20))
    values, text = config(seen(tmp_path, frames))
    assert "e0s" not in values
    assert "The file has no free atoms of O, and one formula cannot fix 3 E0s" in text


def test_free_atoms_without_a_mark_are_known(tmp_path: Path) -> None:
    found = seen(tmp_path, free_atoms("HO") + labelled(molecules(20)))
    assert found.free == ("H", "O") and found.n == 20 and proposal(found, "small").doubts == []
    with pytest.raises(UserError, match="holds free atoms only"):
        seen(tmp_path, free_atoms("HO"))


# --- split


def test_a_trajectory_is_split_in_blocks(tmp_path: Path) -> None:
    frames = molecules(1000, walk=0.1)
    turned = [x.copy() for x in frames]
    for i, atoms in enumerate(turned):
        atoms.rotate(7 * i, "z")
    length = memory(frames)
    assert length == memory(turned) and 8 <= length <= 64
    values, text = config(seen(tmp_path, labelled(turned)))
    assert values["split"] == {"method": "blocked", "block_size": min(5 * length, 50)}
    assert "neighbours stay alike" in text


def test_structures_without_order_are_no_trajectory() -> None:
    for frames in (molecules(300), crystals(100), molecules(1), [*molecules(2), *crystals(2)]):
        assert memory(frames) == 0
    shuffled = molecules(300, walk=0.1)
    np.random.default_rng(1).shuffle(shuffled)
    assert memory(shuffled) == 0


def test_a_crystal_that_wraps_is_a_trajectory() -> None:
    frames, atoms = [], bulk("Cu", cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(0)
    for _ in range(300):
        atoms = atoms.copy()
        atoms.positions += rng.normal(scale=0.01, size=(32, 3))
        atoms.wrap()
        frames.append(atoms)
    assert memory(frames) > 4


def test_groups_stay_together(tmp_path: Path) -> None:
    frames = labelled(molecules(60))
    for i, atoms in enumerate(frames):
        atoms.info |= {"mol_id": i // 5, "config_type": "hot" if i % 2 else "cold"}
    values, text = config(seen(tmp_path, frames))
    assert values["split"]["method"] == "group" and values["split"]["group_key"] == "mol_id"
    assert "mol_id tells 12 groups" in text
    for atoms in frames:
        atoms.info["mol_id"] = 1
    values, text = config(seen(tmp_path, frames))
    assert "method" not in values["split"] and "config_type (cold and hot)" in text


def test_few_structures_get_larger_sets(tmp_path: Path) -> None:
    values, _ = config(seen(tmp_path, labelled(molecules(40))))
    assert values["split"] == {"valid_fraction": 0.2, "test_fraction": 0.2}
    assert values["train"] == {"batch_size": 2, "max_num_epochs": 500}


# --- kinds


def test_kinds() -> None:
    box = molecule("H2O", vacuum=8.0)
    box.pbc = True
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    slab.pbc = (True, True, False)
    flat = slab.copy()
    flat.cell[2] = 0
    found = [kind_of(x) for x in (molecule("H2O"), box, slab, flat, bulk("Cu"))]
    assert found == ["molecule", "box", "slab", "slab", "crystal"]
    slab.pbc = True
    assert kind_of(slab) == "slab"
