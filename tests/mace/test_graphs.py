"""Labels on their way into MACE's graphs: missing ones, stress and virials, slabs, charges."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111

from lora.data.labels import CHARGE, ENERGY, FORCES, SPIN, STRESS, VIRIALS, has_volume
from lora.data.structures import read_structures, write_structures
from lora.errors import UserError
from lora.mace.conditions import say_conditions
from lora.mace.graphs import batches, graphs
from lora.mace.heads import REPLAY, mark_replay
from lora.mace.labelling import label
from lora.mace.predict import predict
from tests.support.labels import charge_aware, mixed, with_holes
from tests.support.models import BASE, make_model


def test_missing_labels_have_weight_zero() -> None:
    structures = with_holes(mixed())
    for atoms, graph in zip(structures, graphs(structures, make_model()), strict=True):
        assert float(graph.energy_weight) == (ENERGY in atoms.info)
        assert float(graph.forces_weight) == (FORCES in atoms.arrays)
        assert float(graph.stress_weight) == float(graph.virials_weight) == (STRESS in atoms.info)


def test_stress_and_virials_come_from_each_other() -> None:
    crystal, model = mixed(1)[0], make_model()
    full = graphs([crystal], model)[0]
    for gone, weight in ((STRESS, "config_virials_weight"), (VIRIALS, "config_stress_weight")):
        one = crystal.copy()
        del one.info[gone]
        one.info[weight] = 0.25
        graph = graphs([one], model)[0]
        assert torch.allclose(graph.stress, full.stress, atol=1e-14)
        assert torch.allclose(graph.virials, full.virials, atol=1e-14)
        assert float(graph.stress_weight) == float(graph.virials_weight) == 0.25


def test_the_signs_are_those_of_the_model() -> None:
    """What a model predicts as stress and as virials belong together in the same way."""
    (crystal,), model = mixed(1), make_model()
    batch = next(batches(graphs([crystal], model), 1))
    out = model(batch.to_dict(), compute_stress=True, compute_virials=True)
    crystal.info = {STRESS: out["stress"].detach().numpy().reshape(9)}
    (graph,) = graphs([crystal], model)
    assert torch.allclose(graph.virials, out["virials"], atol=1e-12)
    assert graph.virials.abs().max() > 1e-3


def slab(c: float | None, pbc: tuple[bool, bool, bool]) -> Atoms:
    atoms = fcc111("C", (2, 2, 3), a=3.2, vacuum=7.0)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    atoms.pbc = pbc
    cell = atoms.cell.array.copy()
    cell[2] = [0, 0, cell[2, 2] if c is None else c]
    atoms.set_cell(cell)
    return atoms


def test_one_slab_written_three_ways(tmp_path: Path) -> None:
    """Energy and forces are equal; the stress is that of T T T, or none where c is zero."""
    model = make_model()
    ways = [slab(None, (True,) * 3), slab(None, (True, True, False)), slab(0, (True, True, False))]
    truth = predict(model, graphs(ways[:1], model), stress=True)
    assert np.abs(truth["stress"]).max() > 1e-4
    for atoms, stressed in zip(ways, (True, True, False), strict=True):
        (made,) = label([atoms], model)
        assert made.info[ENERGY] == pytest.approx(truth["energy"][0], abs=1e-9)
        assert np.allclose(made.arrays[FORCES], truth["forces"], atol=1e-9)
        assert (STRESS in made.info) == has_volume(atoms) == stressed
        if stressed:
            assert np.allclose(made.info[STRESS], truth["stress"].reshape(9), atol=1e-12)
        ase.io.write(tmp_path / "s.xyz", made, format="extxyz")
        (back,) = read_structures(tmp_path / "s.xyz")
        assert (back.pbc == atoms.pbc).all() and (STRESS in back.info) == stressed


def test_strains_give_the_stress_of_a_slab() -> None:
    """The stress is the slope of the energy over the strain, by the volume that the cell has."""
    model, atoms, step = make_model(), slab(None, (True, True, False)), 1e-5
    strained = []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ np.diag([1 + sign * step, 1, 1]), scale_atoms=True)
        strained.append(copy)
    plus, minus = predict(model, graphs(strained, model))["energy"]
    slope = (plus - minus) / (2 * step) / atoms.cell.volume
    found = predict(model, graphs([atoms], model), stress=True)["stress"][0, 0, 0]
    assert found == pytest.approx(slope, rel=1e-5) and abs(slope) > 1e-4


def test_a_model_on_its_own_labels_is_exact(tmp_path: Path) -> None:
    """Charged, slab, crystal, molecule, with labels missing: what is there is met."""
    model = charge_aware()
    structures = [*mixed(6), slab(None, (True, True, False)), slab(0, (True, True, False))]
    for i, atoms in enumerate(structures):
        atoms.info = {CHARGE: i % 5 - 2, SPIN: i % 4}
    made = with_holes(label(structures, model))
    write_structures(tmp_path / "own.xyz", made)
    back = read_structures(tmp_path / "own.xyz")
    found = predict(model, graphs(back, model), stress=True)
    ends = np.cumsum([len(atoms) for atoms in back])[:-1]
    forces = np.split(found["forces"], ends)
    for i, atoms in enumerate(back):
        if ENERGY in atoms.info:
            assert found["energy"][i] == pytest.approx(atoms.info[ENERGY], abs=1e-6 * len(atoms))
        if FORCES in atoms.arrays:
            assert np.allclose(forces[i], atoms.arrays[FORCES], atol=1e-6)
        if STRESS in atoms.info:
            assert np.allclose(found["stress"][i].reshape(9), atoms.info[STRESS], atol=1e-8)
    neutral = [atoms.copy() for atoms in back]
    for atoms in neutral:
        atoms.info = {}
    assert np.abs(predict(model, graphs(neutral, model))["energy"] - found["energy"]).max() > 1e-3


def test_charges_that_a_model_has_no_class_for_are_refused() -> None:
    model, structures = charge_aware(), mixed(3)
    structures[2].info[CHARGE] = 3
    with pytest.raises(
        UserError, match=r"structures frame 2: the total charge .* is 3; .* -2 to 2"
    ):
        graphs(structures, model)
    structures[2].info[CHARGE] = 0.5
    with pytest.raises(UserError, match="is 0.5; the model knows whole numbers"):
        graphs(structures, model)


def test_charges_that_are_assumed_or_not_used_are_said() -> None:
    structures = mixed(4)
    assert say_conditions(make_model(), structures) == []
    (charge, spin) = say_conditions(charge_aware(), structures)
    assert charge.startswith("4 of 4 structures have no total charge") and "0 is assumed" in charge
    assert "no spin multiplicity" in spin and "1 is assumed" in spin
    structures[0].info |= {CHARGE: 0, SPIN: 1}
    structures[1].info |= {CHARGE: 1, SPIN: 2}
    said = say_conditions(make_model(), structures)
    assert len(said) == 2 and all("of 1 of 4 structures" in line for line in said)
    assert say_conditions(charge_aware(), structures[:2]) == []


def test_no_key_of_a_file_selects_a_head_or_a_label(tmp_path: Path) -> None:
    """Only the keys of the config are used, whatever else MACE knows by name."""
    from dataclasses import replace

    model = make_model(replace(BASE, heads=("own", REPLAY)))
    atoms = bulk("C", "diamond", a=3.6)
    plain = graphs([atoms], model)[0].to_dict()
    atoms.info = {"head": REPLAY, "dipole": np.ones(3), "polarizability": np.ones(9)}
    atoms.info |= {"elec_temp": 3.0, "energy": 1.0, "virials": np.ones(9), "stress": np.ones(9)}
    atoms.arrays["charges"] = np.ones(2)
    same = graphs([atoms], model)[0].to_dict()
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[key], same[key]) for key in plain if torch.is_tensor(plain[key]))
    (marked,) = mark_replay([atoms], 0.5)
    assert int(graphs([marked], model)[0].head) == 1 and marked.info["config_weight"] == 0.5


def test_a_molecule_far_from_the_origin_takes_no_more_memory() -> None:
    """MACE's grid of neighbours reaches from the origin: at 5,000 Å it would take terabytes."""
    model, atoms = make_model(), mixed(2)[-1].copy()
    atoms.pbc, atoms.cell = False, None
    far = atoms.copy()
    far.positions += [5000.0, -3000.0, 0.0]
    near, moved = (predict(model, graphs([x], model)) for x in (atoms, far))
    assert np.allclose(near["energy"], moved["energy"], rtol=0, atol=1e-9)
    assert np.allclose(near["forces"], moved["forces"], rtol=0, atol=1e-9)
