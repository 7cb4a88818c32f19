"""Names of charge and spin: those of files for training, and those of MACE's calculator."""

import pytest
from ase.build import molecule

from lora.mace.calculator import with_both_names


@pytest.mark.parametrize(
    "given", [{"charge": 1, "spin": 2}, {"total_charge": 1, "total_spin": 2}, {"charge": 1}]
)
def test_charge_and_spin_have_both_names(given: dict) -> None:
    atoms = molecule("H2O")
    atoms.info = {"step": 3, **given}
    out = with_both_names(atoms)
    assert out.info["charge"] == out.info["total_charge"] == 1
    assert ("spin" in out.info) == ("total_spin" in out.info) == (len(given) > 1)
    assert atoms.info == {"step": 3, **given} and with_both_names(out) is out


def test_names_that_differ_keep_their_own() -> None:
    atoms = molecule("H2O")
    atoms.info = {"charge": 1, "total_charge": 0}
    assert with_both_names(atoms) is atoms
