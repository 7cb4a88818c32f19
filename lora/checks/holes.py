"""Search for holes at random.

A hole is a region where the energy is far too low, into which a simulation falls.  Test sets do not
show holes; random structures that are relaxed find them (arXiv 2606.12704).
"""

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from lora.calculators.potential import Potential
from lora.checks.base import Sample
from lora.checks.dynamics import TOUCHING, closest
from lora.checks.relaxation import LOOK, relax
from lora.data.statistics import rate_below
from lora.data.structures import bare

DEEP = 1.0  # eV/atom below the lowest structure of the data: a hole
NEAREST = 0.8  # sums of covalent radii, at which atoms are thrown
DARTS = 32  # places that are tried for an atom, before the box grows
AT_REST = 0.05  # eV/Å, the largest force of a structure that has come to rest
CALM = 3.0  # eV/Å, the largest force of a structure of which its pace tells where it ends


def holes(
    potential: Potential, sample: Sample, structures: int, steps: int
) -> tuple[float, dict[str, Any]]:
    """Relax random structures, and count those that fall into holes.

    A random structure has the atoms of one of the data, thrown into a box (or its cell) without
    touching.  It has fallen into a hole if two atoms collapse, if its energy is more than `DEEP`
    below that of the structure of the data, or if its energy is not a number.

    Args:
        potential: The potential.
        sample: The structures.
        structures: The number of random structures.
        steps: The most steps of the relaxation (FIRE), which all go through together.  Those that
            have fallen or settled go no further.

    Returns:
        The share that fell into holes (%), and the numbers of those that collapsed or are too low,
        of those that settled, of all that fell and of all, and the rate (%) that holes are below
        with 95 % confidence.
    """
    rng = np.random.default_rng(sample.seed)
    which = np.arange(structures) * len(sample.structures) // structures  # one kind side by side
    thrown = [throw(sample.structures[i], rng) for i in which]
    floor, _ = potential(sample.structures)
    fates = Fates(thrown, floor[which] - DEEP * np.array([len(atoms) for atoms in thrown]))
    watch = lambda done: sample.meter.at("holes", done, steps, "steps")  # noqa: E731
    relax(potential, thrown, steps, fates.known, watch)
    fell = int((fates.collapsed | fates.low).sum())
    detail = {
        "collapsed": int(fates.collapsed.sum()),
        "too_low": int(fates.low.sum()),
        "settled": int(fates.settled.sum()),
        "fell": fell,
        "structures": structures,
        "below": 100.0 * rate_below(fell, structures),
    }
    return 100.0 * fell / structures, detail


class Fates:
    """What becomes of structures that are relaxed.

    Attributes:
        collapsed: Which of them have atoms that touch, at two looks or in the end.
        low: Which have an energy that is too low, or no number.
        settled: Which would not fall if they went on.
    """

    def __init__(self, structures: list[Atoms], lowest: np.ndarray) -> None:
        """Begin.

        Args:
            structures: The structures.
            lowest: The energy of each (eV) below which it has fallen.
        """
        self.structures, self.lowest = structures, lowest
        self.collapsed, self.low, self.settled = (np.zeros(len(lowest), dtype=bool) for _ in "123")
        self._touched = self.settled.copy()  # at the last look
        self._above = np.full(len(lowest), np.inf)  # at the last look, over `lowest` (eV)
        self._pace = np.zeros(len(lowest))  # of the last stretch (eV a step)

    def known(
        self, which: np.ndarray, energies: np.ndarray, forces: np.ndarray, left: int
    ) -> np.ndarray:
        """Look at structures, and return whose fate is known.

        A structure has settled if it is at rest, or if its forces are small and its energy would
        stay above the floor at the larger pace of its last two stretches.

        Args:
            which: Their numbers [m].
            energies: Their energies [m] (eV).
            forces: The largest force of each [m] (eV/Å).
            left: The steps that are left.
        """
        above = np.where(np.isfinite(energies), energies - self.lowest[which], -1.0)
        touch = np.array([closest(self.structures[i]) < TOUCHING for i in which])
        self.low[which] = above < 0
        self.collapsed[which] = touch & (self._touched[which] | (left == 0))
        pace = np.maximum(self._above[which] - above, 0.0) / LOOK  # infinite at the first look
        stays = above > max(left, 1) * np.maximum(pace, self._pace[which])
        calm = (forces < AT_REST) | ((forces < CALM) & stays)
        fallen = self.low[which] | self.collapsed[which]
        self.settled[which] = calm & ~touch & ~fallen & (left > 0)
        self._touched[which], self._above[which], self._pace[which] = touch, above, pace
        known: np.ndarray = fallen | self.settled[which]
        return known


def throw(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return the same atoms at random places, no two nearer than 0.8 sums of covalent radii.

    A box in which there is no such place grows; in a cell, which does not, atoms come nearer.

    Args:
        atoms: The structure.
        rng: The random numbers.
    """
    out, radii = bare(atoms), covalent_radii[atoms.numbers]
    crystal, nearest = bool(atoms.pbc.all()), NEAREST
    # Å; 14 Å^3 an atom
    box = atoms.cell.array if crystal else np.eye(3) * (len(atoms) * 14.0) ** (1 / 3)
    around = (atoms.cell, atoms.pbc) if atoms.pbc.any() else ()
    out.positions[0], placed = rng.uniform(size=3) @ box, 1
    while placed < len(out):
        darts = rng.uniform(size=(DARTS, 3)) @ box
        _, apart = get_distances(darts, out.positions[:placed], *around)
        fits = np.all(apart > nearest * (radii[placed] + radii[:placed]), axis=1)
        if fits.any():
            out.positions[placed] = darts[fits.argmax()]
            placed += 1
        elif crystal:
            nearest *= 0.97
        else:
            box = 1.02 * box
    return out
