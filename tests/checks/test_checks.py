"""Each check passes a sound potential and catches one that is broken for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lora.calculators.potential import Potential, Single
from lora.catalogue.checks import BY_NAME
from lora.checks.dynamics import TOUCHING, closest, fragments
from lora.checks.holes import throw
from lora.checks.run import make_sample, measure, run_checks
from lora.data import statistics
from lora.data.structures import ENERGY, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json, write_sealed
from lora.plan.commands import Run
from lora.steps.check import CheckFiles, check
from tests.support.models import BASE, make_model
from tests.support.morse import Morse, sample
from tests.support.trainings import teacher_data


class Broken:
    """A potential with something added: change(atoms) -> (energy, forces [n_atoms, 3])."""

    def __init__(self, sound: Morse, change: Callable) -> None:
        self.sound, self.change = sound, change
        self.r_max, self.depth, self.e0s = sound.r_max, sound.depth, sound.e0s

    def __call__(self, structures: list[Atoms]) -> tuple[np.ndarray, list[np.ndarray]]:
        energies, forces = self.sound(structures)
        for k, atoms in enumerate(structures):
            energy, force = self.change(atoms)
            energies[k], forces[k] = energies[k] + energy, forces[k] + force
        return energies, forces


def curl(atoms: Atoms) -> tuple[float, np.ndarray]:
    """A force that is no gradient: it turns atoms around the origin."""
    x, y, _ = (atoms.positions - atoms.positions.mean(axis=0)).T
    return 0.0, 0.5 * np.stack([-y, x, 0 * x], axis=1)


def field(atoms: Atoms) -> tuple[float, np.ndarray]:
    """An external field: depends on where and how the structure lies."""
    force = np.zeros((len(atoms), 3))
    force[:, 0] = -0.1
    return 0.1 * float(atoms.positions[:, 0].sum()), force


def far(atoms: Atoms) -> tuple[float, np.ndarray]:
    """A pull between all pairs, however far."""
    vectors = atoms.positions[:, None] - atoms.positions[None]
    d2 = (vectors**2).sum(axis=-1)
    return -0.5 * 1e-3 * float(np.sqrt(d2).sum()), 1e-3 * (
        vectors / np.sqrt(np.maximum(d2, 1e-12))[..., None]
    ).sum(axis=1)


def crowd(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy that grows with the square of the number of atoms."""
    return 1e-3 * len(atoms) ** 2, np.zeros((len(atoms), 3))


def wave(atoms: Atoms) -> tuple[float, np.ndarray]:
    """An energy that waves with the volume."""
    return float(9 * np.sin(120 * atoms.cell.volume ** (1 / 3))), np.zeros((len(atoms), 3))


def step_(atoms: Atoms) -> tuple[float, np.ndarray]:
    """A jump in the energy of a pair."""
    near = len(atoms) == 2 and atoms.get_distance(0, 1) < 1.5
    return 0.5 * near, np.zeros((len(atoms), 3))


def drift(atoms: Atoms) -> tuple[float, np.ndarray]:
    """E0s that have drifted away."""
    return 0.2 * len(atoms), np.zeros((len(atoms), 3))


BROKEN = {
    "gradients": Broken(Morse(), curl),
    "symmetry": Broken(Morse(), field),
    "extensivity": Broken(Morse(), crowd),
    "locality": Broken(Morse(), far),
    "atoms": Broken(Morse(), drift),
    "dimers": Morse(hollow=0.1),
    "eos": Broken(Morse(), wave),
    "nve": Broken(Morse(), curl),
    "heating": Morse(well=0.02),
    "holes": Morse(hollow=0.1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_seen_failing_and_passing(name: str) -> None:
    sound = run_checks(Morse(), sample(), [name])["checks"][name]
    broken = run_checks(BROKEN[name], sample(), [name])["checks"][name]
    limit = BY_NAME[name].limit + (sound["value"] if BY_NAME[name].compare == "excess" else 0)
    assert sound["value"] <= BY_NAME[name].limit
    assert broken["value"] > limit


def test_forgetting_is_measured_without_e0s() -> None:
    one = run_checks(Morse(), sample(), ["forgetting"])["checks"]["forgetting"]
    assert one["value"] == pytest.approx(10.0)  # the labels' forces are off by 0.01 eV/Å
    assert one["detail"]["rmse_e_mev_per_atom"] == pytest.approx(10.0)  # 0.05 eV, 5 atoms
    moved = sample()
    moved.e0s = {"C": -12.0, "H": 5.0}  # another level: other E0s of the same energies
    moved.holdout[0].info[ENERGY] += (-12.0 + 2.0) + 4 * (5.0 + 1.0)
    again = run_checks(Morse(), moved, ["forgetting"])["checks"]["forgetting"]
    assert again["detail"]["rmse_e_mev_per_atom"] == pytest.approx(10.0)


def test_every_fault_of_a_dimer_has_its_name() -> None:
    def faults(potential: object) -> set[str]:
        found = run_checks(potential, sample(), ["dimers"])["checks"]["dimers"]["detail"]
        assert set(found["curves"]) == {"H-H", "H-C", "H-O", "C-C", "C-O", "O-O"}
        return {fault.split(": ")[1] for fault in found["faults"]}

    assert faults(Morse()) == set()
    assert "no wall" in faults(Morse(hollow=0.1))
    assert "jump" in faults(Broken(Morse(), step_))


@pytest.mark.parametrize(
    ("depth", "at", "data", "temperature", "counts"),
    [
        (2.0, 3.2, (0.9, 4.0), 1500.0, True),
        (0.15, 3.2, (0.9, 4.0), 1500.0, False),  # kT is 0.13 eV: atoms leave it
        (0.15, 3.2, (0.9, 4.0), 300.0, True),
        (2.0, 3.2, (0.9, 2.5), 1500.0, False),  # the data never go there
        (2.0, 3.2, None, 1500.0, False),
        (9.0, 3.2, (0.9, 2.5), 1500.0, True),  # deeper than the bond: MD would fall into it
    ],
)
def test_a_second_minimum_counts_where_md_would_feel_it(
    depth: float, at: float, data: tuple[float, float] | None, temperature: float, counts: bool
) -> None:
    def second(atoms: Atoms) -> tuple[float, np.ndarray]:
        r = atoms.get_distance(0, 1)
        pull = -depth * np.exp(-(((r - at) / 0.3) ** 2))
        slope = -2 * (r - at) / 0.09 * pull
        unit = (atoms.positions[1] - atoms.positions[0]) / r
        return pull, np.array([slope * unit, -slope * unit])

    one = sample()
    one.ranges = dict.fromkeys(one.ranges, data) if data else {}
    row = BY_NAME["dimers"]
    value, detail = measure(row, Broken(Morse(), second), one, temperature=temperature)
    assert {fault.split(": ")[1] for fault in detail["faults"]} <= {"second minimum"}
    assert (value == 6) is counts and (value == 0) is not counts


def test_what_cannot_be_checked_is_said() -> None:
    plain = make_sample([molecule("H2O")], [], {}, {})
    found = run_checks(Morse(), plain, ["forgetting", "eos"])
    assert found["checks"] == {}
    assert found["not_checked"]["forgetting"] == "checks.holdout_file is not set"
    crystal = make_sample([bulk("Cu", "fcc", a=2.0)], [], {}, {})
    assert set(run_checks(Morse(), crystal, ["extensivity", "locality"])["not_checked"]) == {
        "extensivity",
        "locality",
    }


def test_a_lone_atom_is_no_run_at_constant_energy() -> None:
    """It has no velocity without momentum: another structure runs, or none."""
    alone, both = sample(), sample()
    alone.structures = [Atoms("H")]
    assert "one atom" in run_checks(Morse(), alone, ["nve"])["not_checked"]["nve"]
    both.structures = [Atoms("H"), *sample().structures]
    found = [run_checks(Morse(), x, ["nve"])["checks"]["nve"] for x in (both, sample())]
    assert found[0]["value"] == found[1]["value"]


def test_the_energy_over_time_is_kept_in_few_numbers() -> None:
    for steps, n in ((1000, 101), (990, 199)):  # a number every 5 steps, or every second of these
        given = sample()
        given.settings = {"nve": {"steps": steps, "timestep": 0.1}}
        curve = run_checks(Morse(), given, ["nve"])["checks"]["nve"]["detail"]["curve"]
        assert len(curve["ps"]) == len(curve["energy"]) == n
        assert curve["ps"][:2] == [0.0, pytest.approx(0.001 if steps == 1000 else 0.0005)]
        assert curve["energy"][0] == 0.0 and np.ptp(curve["energy"]) > 0


def test_the_sample_knows_the_distances_of_the_data() -> None:
    water, crystal = molecule("H2O"), bulk("Cu", "fcc", a=3.6)
    water.positions[1:] *= 1.1
    found = make_sample([molecule("H2O"), water, crystal], [], {}, {}).ranges
    assert set(found) == {(1, 1), (1, 8), (29, 29)}
    plain, longer = (x.get_all_distances() for x in (molecule("H2O"), water))
    assert found[1, 8] == pytest.approx((plain[0, 1], longer[0, 1:].max()))
    assert found[1, 1] == pytest.approx(tuple(sorted((plain[1, 2], longer[1, 2]))))
    assert found[29, 29][0] == pytest.approx(3.6 / 2**0.5)


def test_atoms_that_collapse_in_a_crystal_of_large_atoms() -> None:
    crystal = bulk("K", "bcc", a=5.3, cubic=True) * 2
    assert closest(crystal) > 1
    molecule_ = Atoms("K2", [[0, 0, 0], [1.7, 0, 0]])
    crystal.positions[1] = crystal.positions[0] + [1.7, 0, 0]
    assert closest(crystal) == pytest.approx(closest(molecule_)) and closest(crystal) < TOUCHING


@pytest.mark.parametrize("n", [3, 9, 10, 400])
def test_a_drift_is_found_in_runs_of_any_length(n: int) -> None:
    times = 0.0025 * np.arange(n)
    found = statistics.drift(times, 5.0 + 40.0 * times)
    assert found["slope"] == pytest.approx(40.0)
    assert found["standard_error"] == pytest.approx(0.0, abs=1e-4)


def test_a_short_run_at_constant_energy_is_looked_at_or_said() -> None:
    given = sample()
    given.settings = {"nve": {"steps": 40}}
    assert run_checks(BROKEN["nve"], given, ["nve"])["checks"]["nve"]["value"] > 1
    given.settings = {"nve": {"steps": 9}}
    assert "10 steps" in run_checks(Morse(), given, ["nve"])["not_checked"]["nve"]


def test_thrown_atoms_do_not_touch_and_pieces_are_counted() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        thrown = throw(molecule("CH3CH2OH"), rng)
        assert closest(thrown) > 0.79 and str(thrown.symbols) == str(molecule("CH3CH2OH").symbols)
    assert fragments(molecule("CH3CH2OH")) == 1
    two = molecule("H2O")
    two += Atoms("H", [[8.0, 0, 0]])
    assert fragments(two) == 2


NEEDED = ["forgetting", "gradients", "symmetry", "extensivity", "locality", "atoms", "dimers"]


def test_a_mace_model_from_files(tmp_path: Path) -> None:
    """A model with random weights is sound; its energies are those of its file."""
    torch.save(make_model(), tmp_path / "m.model")
    structures = teacher_data(6, seed=0)
    write_structures(tmp_path / "valid.xyz", structures)
    write_sealed(tmp_path / "e0s.json", {"foundation_E0s": {}})
    valid, out = tmp_path / "valid.xyz", tmp_path / "m.json"
    files = CheckFiles(valid, tmp_path / "e0s.json", holdout=valid)
    models, run = {out: tmp_path / "m.model"}, Run(receipt=Receipt(tmp_path / "r.json"))
    (found,) = check(models, NEEDED, files, run=run)
    assert read_json(out) == found and read_json(tmp_path / "r.json") == {"m": found}
    for name in ("gradients", "symmetry", "extensivity", "locality"):
        assert found["checks"][name]["value"] <= BY_NAME[name].limit, name
    with pytest.raises(UserError, match=r"checks: hole is not known; use forgetting, "):
        check(models, ["hole"], files)
    with pytest.raises(UserError, match=r"checks\.settings\.nve: there is no setting step; use st"):
        check(models, ["nve"], files, {"nve": {"step": 3}})


def test_models_side_by_side_are_found_the_same(tmp_path: Path) -> None:
    write_structures(tmp_path / "valid.xyz", teacher_data(4, seed=0))
    write_sealed(tmp_path / "e0s.json", {"foundation_E0s": {}})
    files = CheckFiles(tmp_path / "valid.xyz", tmp_path / "e0s.json")
    models = {}
    for i in range(3):
        models[tmp_path / f"m{i}.json"] = tmp_path / f"m{i}.model"
        torch.save(make_model(replace(BASE, name=f"m{i}", seed=i)), tmp_path / f"m{i}.model")

    def found(threads: int) -> list[dict]:
        results = check(models, ["dimers", "symmetry"], files, run=Run(threads))
        assert results == [read_json(out) for out in models]
        return [{k: x["detail"] | {k: x["value"]} for k, x in r["checks"].items()} for r in results]

    one_by_one = found(1)
    assert found(2) == one_by_one
    assert one_by_one[0] != one_by_one[1] != one_by_one[2]


def test_potential_is_the_model_in_ase(tmp_path: Path) -> None:
    from lora.mace.door import upstream

    torch.save(make_model(), tmp_path / "m.model")
    write_structures(tmp_path / "s.xyz", teacher_data(3, seed=2))
    structures = load_structures(tmp_path / "s.xyz")
    potential = Potential(tmp_path / "m.model", [1, 6, 8])
    energies, forces = potential(structures)
    mace = upstream("mace.calculators").MACECalculator(
        model_paths=str(tmp_path / "m.model"), device="cpu", default_dtype="float64"
    )
    for atoms, energy, force in zip(structures, energies, forces, strict=True):
        atoms.calc = mace
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        assert np.abs(atoms.get_forces() - force).max() < 1e-9
        assert np.abs(force).max() > 1e-3
        own = atoms.copy()
        own.calc = Single(potential)
        assert own.get_potential_energy() == pytest.approx(energy, abs=1e-12)
