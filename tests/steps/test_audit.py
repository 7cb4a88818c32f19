"""The step audit: what it refuses, warns of and lets pass, on files as users have them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT

from lora.catalogue.findings import BY_NAME
from lora.cli.main import main
from lora.data.audit_file import judge
from lora.data.audit_fit import fit_of
from lora.data.audit_outside import far_outside
from lora.data.audit_positions import in_angstrom
from lora.data.labels import CHARGE, SPIN, Keys
from lora.data.origin import read_from
from lora.data.structures import ENERGY, FORCES, read_structures, write_structures
from lora.errors import UserError, UserErrors
from lora.files.sealed import Receipt, read_json
from lora.plan.commands import Base, Run
from lora.plan.config_data import Audit
from lora.steps.audit import DEFAULTS, _compare, _predict, audit
from tests.support import counts
from tests.support.datasets import (
    BASE,
    QUICKSTART,
    another_theory,
    base,
    charged,
    crystals,
    labelled,
    molecules,
    random_dataset,
    scaled,
)
from tests.support.models import BASE as CASE
from tests.support.models import make_model

OURS = Base(BASE)
PBE0 = sorted(QUICKSTART.glob("malonaldehyde_*.xyz"))


def run(
    path: Path, structures: list[Atoms], base: Base = OURS, **settings: object
) -> dict[str, str]:
    """Audit structures in a file; return {name: level} of all but notes."""
    write_structures(path, structures)
    found = audit({"data": str(path)}, base, Keys(), Audit(**settings))
    return {x["name"]: x["level"] for x in found["findings"] if x["level"] != "note"}


@pytest.fixture(scope="module")
def right() -> list[Atoms]:
    rng = np.random.default_rng(1)
    return labelled(molecules(rng, 8, ["CH3OH", "HCOOH"], 0.08) + crystals(rng, 6, 0.05))


def test_right_data_pass_and_the_receipt_says_what_was_measured(
    right: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "dft.xyz"
    write_structures(path, right)
    made = Run(receipt=Receipt(tmp_path / "audit.json"))
    found = audit({"data": str(path), "test set hot": str(path)}, Base(BASE), Keys(), run=made)
    assert read_json(tmp_path / "audit.json") == found and [*found["files"]] == [str(path)]
    file = found["files"][str(path)]
    assert file["structures"] == file["compared"] == len(right)
    for label in ("energy", "forces", "stress"):
        assert file["fits"][label]["slope"] == pytest.approx(1.0, abs=1e-4)
    printed = capsys.readouterr().out
    assert "slope" in printed and "warning" not in printed


def test_every_refusal_is_a_line_and_one_is_accepted_by_its_name(
    right: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wrong = scaled(scaled(right, "forces", -1.0), "stress", 1602.1766)
    with pytest.raises(UserErrors) as error:
        run(tmp_path / "dft.xyz", wrong)
    lines = error.value.lines
    assert len(lines) == 2
    assert re.match(
        r"audit: .*dft\.xyz: forces: -1 times what .* \(correlation -1\.00\) in 14 structures; "
        r"most likely gradients, .*multiply by -1, .* audit: \{accept: \[forces_sign\]\}$",
        lines[0],
    )
    assert "in kbar; multiply by 0.000624151" in lines[1]
    with pytest.raises(UserErrors) as error:
        run(tmp_path / "dft.xyz", wrong, accept=("forces_sign",))
    assert len(error.value.lines) == 1 and "kbar" in error.value.lines[0]
    capsys.readouterr()
    both = {"forces_sign": "accepted", "stress_kbar": "accepted"}
    assert run(tmp_path / "dft.xyz", wrong, accept=tuple(both)) == both
    assert "accepted: " in capsys.readouterr().out


def test_files_are_judged_one_by_one(right: list[Atoms], tmp_path: Path) -> None:
    names = [str(tmp_path / x) for x in ("dft.xyz", "hot.xyz")]
    write_structures(names[0], right)
    write_structures(names[1], scaled(right, "forces", 23.06))
    with pytest.raises(UserErrors) as error:
        audit(dict(zip(("data", "test set hot"), names, strict=True)), Base(BASE), Keys())
    (line,) = error.value.lines
    assert "hot.xyz: forces" in line and "kcal/mol" in line


def test_a_holdout_of_the_models_own_theory_may_have_the_geometries_of_the_data(
    right: list[Atoms], tmp_path: Path
) -> None:
    moved = [atoms.copy() for atoms in right]
    for atoms in moved:
        atoms.info[ENERGY] += 3.0 * len(atoms)
    files = {x: str(tmp_path / f"{x}.xyz") for x in ("data", "holdout", "hot")}
    for path, structures in zip(files.values(), (moved, right, right), strict=True):
        write_structures(path, structures)

    def warned() -> list[str]:
        rows = audit(files, Base(BASE), Keys())["findings"]
        return [x["name"] for x in rows if x["level"] != "note"]

    assert warned() == ["same_geometry"]  # of data and hot
    del files["hot"]
    assert warned() == []


def test_elements_that_the_model_lacks_are_refused_whatever_is_accepted(
    right: list[Atoms], tmp_path: Path
) -> None:
    salt = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.4]], info={ENERGY: -1.0})
    salt.arrays[FORCES] = np.zeros((2, 3))
    with pytest.raises(UserErrors, match=r"dft\.xyz frame 14: Na Cl in 1 structures.*H C N O"):
        run(tmp_path / "dft.xyz", [*right, salt])
    with pytest.raises(ValueError, match="not the name of a finding"):
        Audit(accept=("unknown_element",))


@pytest.mark.parametrize("name", ["positions_bohr", "positions_bohr_twice"])
def test_positions_in_another_unit_are_refused(
    right: list[Atoms], tmp_path: Path, name: str
) -> None:
    row = BY_NAME[name]
    assert row.factor is not None
    back = BY_NAME["positions_bohr" if name != "positions_bohr" else "positions_bohr_twice"]
    wrong = [in_angstrom(atoms, back) for atoms in right]
    with pytest.raises(UserErrors) as error:
        run(tmp_path / "dft.xyz", wrong)
    assert [x for x in error.value.lines if f"accept: [{name}]" in x]


def test_positions_in_nm_are_named_before_anything_is_computed_with_them(
    right: list[Atoms],
) -> None:
    """Of light elements the reading refuses them already; of heavy ones it cannot."""
    to_nm = replace(BY_NAME["positions_nm"], factor=10.0)
    wrong = [in_angstrom(atoms, to_nm) for atoms in right]
    compared, (found,) = _compare(wrong, "dft.xyz", base(), DEFAULTS)
    assert found.name == "positions_nm" and found.level == "refuse"
    assert fit_of("forces", compared).slope == pytest.approx(1.0, abs=1e-6)


def test_atomic_units_throughout_are_named_one_by_one(right: list[Atoms], tmp_path: Path) -> None:
    wrong = scaled(scaled(right, "energy", 1 / 27.2114), "forces", 1 / 51.4221)
    wrong = [in_angstrom(atoms, BY_NAME["positions_bohr_twice"]) for atoms in wrong]
    with pytest.raises(UserErrors) as error:
        run(tmp_path / "dft.xyz", wrong)
    for name in ("positions_bohr", "energy_hartree", "forces_hartree_bohr"):
        assert [x for x in error.value.lines if f"accept: [{name}]" in x], name


def test_labels_that_no_key_asks_for_are_a_warning(right: list[Atoms], tmp_path: Path) -> None:
    more = [atoms.copy() for atoms in right]
    more[2].info["dft_stress"] = np.zeros(9)
    assert run(tmp_path / "dft.xyz", more) == {"unused_labels": "warn"}


def test_a_dataset_far_from_the_model_is_not_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    structures = molecules(rng, 12, ["CH3OH", "HCOOH", "CH3CHO"], 0.1)
    for atoms in structures:
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.info, atoms.calc = {ENERGY: energy}, None
        atoms.arrays[FORCES] = forces
    assert "refuse" not in run(tmp_path / "dft.xyz", structures).values()


def test_random_labels_are_not_refused(right: list[Atoms], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [atoms.copy() for atoms in right]
    for atoms in noise:
        atoms.info[ENERGY] = rng.normal()
        atoms.arrays[FORCES] = rng.normal(size=(len(atoms), 3))
    found = run(tmp_path / "dft.xyz", noise)
    assert found["forces_unexplained"] == "warn"


def test_by_hand(right: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, out = tmp_path / "dft.xyz", tmp_path / "audit.json"
    write_structures(path, scaled(right, "energy", 23.0605))
    command = ["audit", str(path), "--foundation", str(BASE), "--out", str(out)]
    assert main(command) == 2 and not out.exists()
    assert "audit: " in (said := capsys.readouterr().err) and "kcal/mol" in said
    assert main([*command, "--accept", "energy_kcal_mol"]) == 0
    assert read_json(out)["findings"][0]["level"] == "accepted"
    capsys.readouterr()
    assert main([*command, "--accept", "energy_kcal_mole"]) == 2
    assert "did you mean energy_kcal_mol?" in capsys.readouterr().err
    assert main([*command, "--least_correlation", "2"]) == 2
    assert "audit: least_correlation: 2" in capsys.readouterr().err


def test_a_file_of_free_atoms_alone_is_left_alone(tmp_path: Path) -> None:
    free = [Atoms(x, info={"config_type": "IsolatedAtom", ENERGY: -1.0}) for x in "HC"]
    for atoms in free:
        atoms.arrays[FORCES] = np.zeros((1, 3))
    assert run(tmp_path / "dft.xyz", free) == {}


@pytest.mark.long
def test_random_right_data_are_not_refused(tmp_path: Path) -> None:
    """By the base itself not even warned of; by a soft base and by another theory not refused."""
    for seed in range(counts.of(4, 200)):
        structures = random_dataset(seed)
        own = labelled(structures)
        assert run(tmp_path / "own.xyz", own) == {}, seed
        size = (0.02, 0.05, 0.1)[seed % 3]
        other = labelled(structures, another_theory(seed, size))
        for data in (scaled(own, "forces", 0.8), other):
            read_from(data, "dft.xyz")
            found = judge("dft.xyz", _predict(data, base()), far_outside(data, DEFAULTS), DEFAULTS)
            assert [x.text() for x in found.found if x.level == "refuse"] == [], seed


def test_engines_that_the_base_cannot_be_written_for_are_said(tmp_path: Path) -> None:
    """Before training; the quickstart's base goes to both, one with charges to ASE alone."""
    torch.save(make_model(replace(CASE, charged=True)), tmp_path / "charged.model")
    own = labelled(charged(np.random.default_rng(0), 6, 0.05))
    write_structures(tmp_path / "dft.xyz", own)

    def refused(base: Base) -> list[str]:
        made = audit({"data": str(tmp_path / "dft.xyz")}, base, Keys(), engines=("ase", "lammps"))
        rows = made["findings"]
        return [x["text"] for x in rows if (x["name"], x["level"]) == ("engine_refuses", "warn")]

    assert refused(OURS) == []
    (line,) = refused(Base(tmp_path / "charged.model"))
    assert "lammps: the model takes total_charge and total_spin" in line.replace(
        "total_spin and total_charge", "total_charge and total_spin"
    )


@pytest.mark.long
def test_random_charged_data_are_right_with_their_charges(tmp_path: Path) -> None:
    model = make_model(replace(CASE, charged=True))
    torch.save(model, tmp_path / "charged.model")
    for seed in range(counts.of(2, 30)):
        rng = np.random.default_rng(seed)
        own = labelled(charged(rng, int(rng.integers(8, 20)), 0.08), model)
        base = Base(tmp_path / "charged.model")
        assert run(tmp_path / "own.xyz", own, base) == {}, seed
        compared = _predict(own, model)
        assert fit_of("energy", compared).correlation == pytest.approx(1.0, abs=1e-9)
        neutral = [atoms.copy() for atoms in own]
        for atoms in neutral:
            del atoms.info[CHARGE], atoms.info[SPIN]
        assert fit_of("energy", _predict(neutral, model)).correlation < 0.999, seed


@pytest.mark.long
def test_parts_of_real_data_of_another_theory_are_not_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = {path: [x for x in read_structures(path) if len(x) > 1] for path in PBE0}
    for _ in range(counts.of(3, 60)):
        path = PBE0[rng.integers(len(PBE0))]
        some = rng.permutation(len(frames[path]))[: rng.integers(1, 40)]
        try:
            found = run(tmp_path / "dft.xyz", [frames[path][i] for i in some])
        except UserError as error:
            pytest.fail(f"{path.name} {some.tolist()}: {error}")
        assert "far_outside" not in found
