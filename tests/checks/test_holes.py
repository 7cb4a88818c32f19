"""The search for holes sees what it says that it sees, and asks for no more than it has to."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.stats import binom

from lora.catalogue.checks import BY_NAME
from lora.checks.dynamics import TOUCHING, closest
from lora.checks.holes import Fates, throw
from lora.checks.relaxation import relax
from lora.checks.run import measure
from lora.data.statistics import rate_below
from tests.support import counts
from tests.support.morse import sample
from tests.support.planted import Planted

ROW = BY_NAME["holes"]
WEAK = 0.57  # bonds at which walls end: then one percent of random formaldehydes fall


@cache
def at_rest() -> Atoms:
    """A formaldehyde at rest, of Morse pairs, which has no hole."""
    atoms = molecule("H2CO")
    relax(Planted(), [atoms], 300)
    return atoms


def search(potential: Planted, seed: int = 0, **settings: int) -> dict:
    """What a search finds, with its default settings where no others are given."""
    of = replace(sample(), structures=[at_rest()], seed=seed)
    value, detail = measure(ROW, potential, of, **settings)
    assert value == pytest.approx(100 * detail["fell"] / detail["structures"])
    return detail


@pytest.mark.long
def test_a_hole_of_one_percent_is_found_with_95_percent_probability() -> None:
    """One into which one percent falls that is relaxed for as long as before."""
    n = counts.of(600, 15000)
    rng = np.random.default_rng(99)
    thrown = [throw(at_rest(), rng) for _ in range(n)]
    relax(Planted(WEAK), thrown, 100)
    fell = sum(closest(atoms) < TOUCHING for atoms in thrown)
    low, high = binom.interval(0.99, n, 0.01)
    assert low <= fell <= high
    found = [search(Planted(WEAK), seed)["fell"] for seed in range(counts.of(20, 200))]
    assert np.mean(np.array(found) > 0) >= 0.95


def test_a_sound_potential_has_none_and_most_structures_settle_early() -> None:
    potential = Planted()
    detail = search(potential)
    assert detail["fell"] == 0 and detail["settled"] > 0.5 * detail["structures"]
    assert detail["below"] < 1.0  # %, of which it is blind
    assert potential.asked < 0.8 * 51 * detail["structures"]
    assert potential.calls <= 1 + 51  # all of them side by side


def test_what_is_given_up_early_would_not_have_fallen() -> None:
    """Of a potential with many holes, most are found that a long search finds."""
    patient, early = Planted(0.7), Planted(0.7)
    rng = np.random.default_rng(1)
    thrown = [throw(at_rest(), rng) for _ in range(400)]
    fates = Fates(thrown, np.full(400, -1e9))

    def fallen(which: np.ndarray, *seen: object) -> np.ndarray:
        fates.known(which, *seen)
        return fates.collapsed[which]

    relax(patient, thrown, 100, fallen)
    detail = search(early, 1, structures=400)
    assert detail["collapsed"] + detail["too_low"] >= 0.7 * fates.collapsed.sum() > 20
    assert early.asked < 0.5 * patient.asked


def test_energies_that_are_no_numbers_are_holes() -> None:
    class Nowhere(Planted):
        def __call__(self, structures: list[Atoms]) -> tuple[np.ndarray, list[np.ndarray]]:
            energies, forces = super().__call__(structures)
            if len(structures) > 1:  # not of the data
                energies[:3] = np.nan, np.inf, -np.inf
                forces[:3] = [np.full_like(x, np.nan) for x in forces[:3]]
            return energies, forces

    assert search(Nowhere(), structures=9)["too_low"] >= 3


@pytest.mark.parametrize(
    ("fell", "n", "below"), [(0, 300, 0.00994), (0, 40, 0.0722), (3, 300, 0.0256), (5, 5, 1.0)]
)
def test_what_a_rate_is_below(fell: int, n: int, below: float) -> None:
    """The rate at which so few, or fewer, are seen in one of twenty searches."""
    assert rate_below(fell, n) == pytest.approx(below, rel=0.01)
    if fell < n:
        assert binom.cdf(fell, n, rate_below(fell, n)) == pytest.approx(0.05)


def test_thrown_atoms_have_the_charge_of_their_structure() -> None:
    """A neutral molecule is electronvolts below its cation, and no hole."""
    atoms = molecule("CH3CHO")
    atoms.info |= {"total_charge": 1, "total_spin": 2, "REF_energy": -5.0}
    assert throw(atoms, np.random.default_rng(0)).info == {"total_charge": 1, "total_spin": 2}


def test_thrown_atoms_find_room() -> None:
    """In a box of their own, around heavy atoms, and in a cell that is too full."""
    rng = np.random.default_rng(0)
    full = bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    for atoms, least in ((Atoms("Cs8"), 0.8), (molecule("C6H6"), 0.8), (full, 0.6)):
        thrown = throw(atoms, rng)
        assert closest(thrown) > least
        assert np.array_equal(thrown.numbers, atoms.numbers)
        assert np.allclose(thrown.cell, atoms.cell)
