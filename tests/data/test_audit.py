"""The audit's findings: every wrong unit and sign by its name, single frames, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from lora.catalogue.findings import BY_NAME, LABELS, NAMES, ROWS, Finding, units_of
from lora.data.audit_file import judge, label_findings
from lora.data.audit_fit import Compared, fit
from lora.data.audit_outside import far_outside, same_geometry
from lora.data.audit_positions import in_angstrom, position_units, spacing
from lora.data.audit_sample import choose
from lora.data.origin import read_from
from lora.data.structures import ENERGY, FORCES, STRESS, read_structures
from lora.data.unused import Unused
from lora.plan.config_data import Audit
from lora.steps.audit import _predict
from tests.support.datasets import (
    QUICKSTART,
    another_theory,
    base,
    crystals,
    labelled,
    molecules,
    scaled,
)

SETTINGS = Audit()


@cache
def compared(kind: str) -> Compared:
    """Structures with labels of the base, of another theory, or of PBE0, and the predictions."""
    if kind == "pbe0":
        frames = read_structures(QUICKSTART / "malonaldehyde_600K.xyz")[:30]
        return _predict([atoms for atoms in frames if len(atoms) > 1], base())
    rng = np.random.default_rng(5)
    made = molecules(rng, 12, ["CH3OH", "HCOOH", "CH3CHO"], 0.08) + crystals(rng, 12, 0.05)
    out = labelled(made, None if kind == "base" else another_theory(3, 0.05))
    read_from(out, "dft.xyz")
    return _predict(out, base())


def spoilt(kind: str, spoil: Callable[[Atoms, int], None]) -> Compared:
    """The same structures with other labels."""
    found = compared(kind)
    structures = [atoms.copy() for atoms in found.structures]
    for i, atoms in enumerate(structures):
        spoil(atoms, i)
    return replace(found, structures=structures)


def findings(found: Compared, settings: Audit = SETTINGS) -> dict[str, str]:
    """{name: level} of all but notes."""
    judged = judge("dft.xyz", found, far_outside(found.structures, settings), settings)
    return {x.name: x.level for x in judged.found if x.level != "note"}


def times(row: Finding) -> Callable[[Atoms, int], None]:
    """Write labels in the unit of a row."""
    assert row.factor is not None

    def spoil(atoms: Atoms, _: int) -> None:
        size = {"": 1.0, "atom": 1 / len(atoms), "volume": atoms.cell.volume}[row.per]
        wrong = scaled([atoms], row.label, row.factor * size)[0]
        atoms.info, atoms.arrays = wrong.info, wrong.arrays

    return spoil


@pytest.mark.parametrize("kind", ["base", "theory", "pbe0"])
def test_right_labels_have_a_slope_near_one(kind: str) -> None:
    judged = judge("dft.xyz", compared(kind), [], SETTINGS)
    assert findings(compared(kind)) == {}
    for quantity in ("forces",) if kind == "pbe0" else LABELS:
        found = judged.fits[quantity]
        assert 0.8 < found.slope < 1.25 and found.least > 0.8, quantity


UNITS = [row for label in LABELS for row in units_of(label)]


@pytest.mark.parametrize("row", UNITS, ids=lambda row: row.name)
def test_every_wrong_unit_and_sign_is_named(row: Finding) -> None:
    assert findings(spoilt("base", times(row))) == {row.name: row.level}
    for kind in ("theory", "pbe0"):
        if (kind, row.label) == ("pbe0", "stress") or row.name in ("forces_ev_bohr",):
            continue  # molecules; and a unit that another theory cannot be told from
        found = findings(spoilt(kind, times(row)))
        if row.level == "refuse":  # under that name, or one that is as near
            assert "refuse" in found.values() and all(x.startswith(row.label) for x in found)


def test_a_unit_and_a_sign_are_two_findings() -> None:
    def vasp(atoms: Atoms, _: int) -> None:
        if STRESS in atoms.info:
            atoms.info[STRESS] = -1602.1766 * atoms.info[STRESS]

    assert findings(spoilt("base", vasp)) == {"stress_kbar": "refuse", "stress_sign": "refuse"}


def test_a_virial_has_either_sign_and_is_no_stress_of_the_other() -> None:
    def minus(atoms: Atoms, _: int) -> None:
        if STRESS in atoms.info:
            atoms.info[STRESS] = -atoms.cell.volume * atoms.info[STRESS]

    assert findings(spoilt("base", minus)) == {"stress_virial": "refuse"}


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.3, 1.9])
def test_a_soft_base_is_not_refused(factor: float) -> None:
    for kind in ("base", "theory", "pbe0"):
        soft = spoilt(kind, times(Finding("x", "forces", "warn", "", "", factor)))
        assert "refuse" not in findings(soft).values()


def test_an_unknown_scale_is_a_warning() -> None:
    found = findings(spoilt("base", times(Finding("x", "forces", "warn", "", "", 4.0))))
    assert found == {"forces_scale": "warn"}


def test_labels_of_other_frames_or_atoms_are_not_judged_and_that_is_said() -> None:
    forces = [atoms.arrays[FORCES] for atoms in compared("pbe0").structures]

    def other(atoms: Atoms, i: int) -> None:
        atoms.arrays[FORCES] = forces[(i + 7) % len(forces)][::-1]

    found = findings(spoilt("pbe0", other))
    assert found["forces_unexplained"] == "warn" and "refuse" not in found.values()


def test_single_frames_of_another_sign_or_unit_are_named() -> None:
    for factor, name in ((-1.0, "forces_sign"), (1 / 51.422, "forces_hartree_bohr")):

        def some(atoms: Atoms, i: int, factor: float = factor) -> None:
            if i in (1, 4, 5, 9):
                atoms.arrays[FORCES] = factor * atoms.arrays[FORCES]

        found = spoilt("base", some)
        judged = judge("dft.xyz", found, [], SETTINGS).found
        assert [(x.name, x.where) for x in judged if x.level == "refuse"] == [
            (name, "dft.xyz frames 1, 4, 5, 9")
        ]


def test_zero_forces_are_refused_where_the_model_has_some() -> None:
    def some(atoms: Atoms, i: int) -> None:
        if i < 3:
            atoms.arrays[FORCES] = np.zeros_like(atoms.arrays[FORCES])

    (found,) = judge("dft.xyz", spoilt("base", some), [], SETTINGS).found
    assert (found.name, found.where) == ("forces_zero", "dft.xyz frames 0, 1, 2")
    every = spoilt("base", times(Finding("x", "forces", "warn", "", "", 0.0)))
    assert findings(every) == {"forces_zero": "refuse"}


def test_zero_forces_of_a_symmetric_crystal_are_right() -> None:
    perfect = [bulk("C", "diamond", a=3.4 + 0.05 * i) for i in range(6)]
    found = labelled(perfect)
    for atoms in found:
        atoms.arrays[FORCES][:] = 0.0
    assert findings(_predict(found, base())) == {}


def test_forces_of_held_atoms_are_a_warning() -> None:
    def held(atoms: Atoms, _: int) -> None:
        atoms.arrays[FORCES][0] = 0.0

    assert findings(spoilt("base", held)) == {"forces_zero": "warn"}


def test_a_zero_stress_is_refused_where_the_model_has_one() -> None:
    def some(atoms: Atoms, i: int) -> None:
        if STRESS in atoms.info and i % 2:
            atoms.info[STRESS] = np.zeros(9)

    assert findings(spoilt("base", some)) == {"stress_zero": "refuse"}


def test_constant_labels_are_refused() -> None:
    first = compared("pbe0").structures[0]

    def energy(atoms: Atoms, _: int) -> None:
        atoms.info[ENERGY] = first.info[ENERGY]

    def forces(atoms: Atoms, _: int) -> None:
        atoms.arrays[FORCES] = first.arrays[FORCES].copy()

    def vector(atoms: Atoms, _: int) -> None:
        atoms.arrays[FORCES][:] = [0.1, -0.2, 0.3]

    assert findings(spoilt("pbe0", energy))["energy_constant"] == "refuse"
    assert findings(spoilt("pbe0", forces))["forces_constant"] == "refuse"
    assert findings(spoilt("pbe0", vector))["forces_constant"] == "refuse"


# --- frames far outside


def test_a_frame_that_did_not_converge_is_named_with_its_value() -> None:
    def one(atoms: Atoms, i: int) -> None:
        atoms.info[ENERGY] += 50.0 * (i == 5)

    found = spoilt("pbe0", one)
    read_from(found.structures, "dft.xyz")
    judged = judge("dft.xyz", found, far_outside(found.structures, SETTINGS), SETTINGS)
    (line,) = [x for x in judged.found if x.level == "warn"]
    assert (line.name, line.where) == ("far_outside", "dft.xyz frame 5")
    assert "+5.5" in line.evidence and "eV/atom" in line.evidence


def test_a_crystal_of_another_volume_is_far_outside_and_one_of_another_formula_is_not() -> None:
    frames = labelled(crystals(np.random.default_rng(2), 14, 0.01))
    assert far_outside(frames, SETTINGS) == []
    frames[4].set_cell(frames[4].cell.array * 1.5)
    (found,) = far_outside(frames, SETTINGS)
    assert found.index == 4 and found.evidence.startswith("volume 3.")


def test_a_frame_with_weight_zero_is_left_alone() -> None:
    def one(atoms: Atoms, i: int) -> None:
        if i == 5:
            atoms.info |= {ENERGY: atoms.info[ENERGY] + 50.0, "config_energy_weight": 0.0}

    assert findings(spoilt("pbe0", one)) == {}


def test_a_frame_that_the_model_has_so_too_is_a_note() -> None:
    pressed = molecule("CH3OH")
    pressed.positions *= 0.75
    rng = np.random.default_rng(0)
    found = _predict(labelled([*molecules(rng, 12, ["CH3OH"], 0.03), pressed]), base())
    read_from(found.structures, "dft.xyz")
    far = far_outside(found.structures, SETTINGS)
    assert [x.index for x in far] == [12]
    (line,) = judge("dft.xyz", found, far, SETTINGS).found
    assert (line.name, line.level) == ("far_outside_as_predicted", "note")


def test_forces_of_single_frames_that_belong_elsewhere_are_named() -> None:
    def one(atoms: Atoms, i: int) -> None:
        if i == 3:
            atoms.arrays[FORCES] = 2.0 * atoms.arrays[FORCES][::-1]

    found = spoilt("base", one)
    (line,) = [x for x in judge("dft.xyz", found, [], SETTINGS).found if x.level == "warn"]
    assert (line.name, line.where) == ("strange_forces", "dft.xyz frame 3")


# --- geometries, labels, sample, positions


def test_equal_geometries_with_other_labels_are_named_unless_charges_differ() -> None:
    frames = labelled(molecules(np.random.default_rng(0), 4, ["CH3OH"], 0.05))
    again = frames[1].copy()
    again.positions += [1.0, 2.0, 3.0]  # moved as a whole
    read_from(frames := [*frames, again], "dft.xyz")
    assert same_geometry(frames, SETTINGS) == []
    again.info[ENERGY] += 0.3
    (found,) = same_geometry(frames, SETTINGS)
    assert found.where == "dft.xyz frames 1, 4" and found.level == "warn"
    assert f"{300 / len(again):.3g} meV/atom" in found.evidence
    assert same_geometry(frames, Audit(same_geometry=100)) == []
    again.info["total_charge"] = 1
    assert same_geometry(frames, SETTINGS) == []


def test_unused_and_missing_labels_are_counted() -> None:
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]) for _ in range(3)]
    frames[1].info[ENERGY] = -1.0
    unused = [Unused("dft_forces", "forces", 3, 3), Unused("free_energy", "energy", 1, 0)]
    lost, spare, missing = label_findings("dft.xyz", frames, unused)
    assert lost.text().startswith(
        "dft.xyz: dft_forces (forces) in 3 structures; labels in the file"
    )
    assert lost.level == "warn" and "no key asks for" in lost.text()
    assert spare.level == "note" and "free_energy (energy) in 1 structures" in spare.text()
    assert "no energy of 2 structures, forces of 3 structures (of 3)" in missing.text()


def test_the_sample_has_every_kind_and_keeps_its_bounds() -> None:
    rng = np.random.default_rng(0)
    many = molecules(rng, 60, ["CH3OH"], 0.1) + molecules(rng, 2, ["C6H6"], 0.1)
    large = [bulk("C", cubic=True) * (3, 3, 3)]
    (first, second) = choose([many, large], [{7}, ()], Audit(max_frames=10, max_atoms=300))
    assert len(first) + len(second) <= 10 and second == [0] and {7, 60, 61} <= {*first}
    assert sum(len(many[i]) for i in first) + 216 <= 300
    assert choose([many], [()], Audit(seed=1, max_frames=9)) == choose(
        [many], [()], Audit(seed=1, max_frames=9)
    )
    assert choose([many], [()], SETTINGS) == [list(range(62))]
    small = molecules(rng, 30, ["H2O"], 0.1)  # a file of one kind beside one of many
    other = [molecule("H2O") * (1, 1, 1) for _ in range(62)]
    for i, atoms in enumerate(other):
        atoms.info["config_type"] = str(i)
    own, theirs = choose([small, other], [(), ()], Audit(max_frames=40))
    assert (len(own), len(theirs)) == (20, 20)


@pytest.mark.parametrize("name", [x for x in BY_NAME if x.startswith("positions")])
def test_positions_in_another_unit_are_recognised(name: str) -> None:
    row = BY_NAME[name]
    assert row.factor is not None
    for atoms in (molecule("CH3CHO"), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.64)):
        assert position_units(spacing([atoms])) == []
        if row.factor > 10 and atoms.pbc.all():
            continue  # no neighbour that could be found
        wrong = in_angstrom(atoms, replace(row, factor=1 / row.factor))
        assert row in position_units(spacing([wrong]))
        assert np.allclose(in_angstrom(wrong, row).positions, atoms.positions)
        assert spacing([atoms]) == pytest.approx(1.0, abs=0.15)


def test_the_slope_is_the_same_with_noise_in_labels_and_in_predictions() -> None:
    rng = np.random.default_rng(0)
    true, noise = rng.normal(size=4000), 0.5 * rng.normal(size=4000)
    a, b = fit(true, true + noise, 4000), fit(true + noise, true, 4000)
    assert a.slope * b.slope == pytest.approx(1.0)
    assert fit(-true, true, 4000).slope == pytest.approx(-1.0)
    assert a.correlation == pytest.approx(0.894, abs=0.01) and 0 < a.least < a.correlation
    assert fit(true[:5], true[:5], 5).least == 0.0


def test_names_are_unique_and_told() -> None:
    assert len(BY_NAME) == len(ROWS) and "unknown_element" not in NAMES
    assert all(row.meaning and (row.remedy or row.level == "note") for row in ROWS)
