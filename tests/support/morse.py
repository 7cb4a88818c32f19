"""A sound potential that needs no model, and a sample for the checks."""

import copy
from functools import cache
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from matscipy.neighbours import neighbour_list

from lora.checks.base import Sample
from lora.checks.holes import relax
from lora.data.structures import ENERGY, FORCES


class Morse:
    """A sum of Morse pairs with a smooth end: sound, cheap, and easily broken.

    depth: eV; bond: Å, of every pair; wall: below `bond - hollow` the pair attracts instead
    """

    r_max, depth = 4.0, 1
    e0s: ClassVar = {"H": -1.0, "C": -2.0, "O": -3.0, "Cu": -4.0}

    def __init__(self, well: float = 3.0, bond: float = 1.2, hollow: float | None = None) -> None:
        self.well, self.bond, self.hollow = well, bond, hollow

    def pair(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energy (eV) and its slope (eV/Å)."""
        x = np.exp(-2.0 * (r - self.bond))
        energy, slope = self.well * (x**2 - 2 * x), self.well * (-4 * x**2 + 4 * x)
        if self.hollow is not None:
            inner = r < self.bond - self.hollow
            deep = 40 * (r - self.bond + self.hollow)
            energy, slope = np.where(inner, deep - self.well, energy), np.where(inner, 40.0, slope)
        end = np.where(r < self.r_max, (1 - (r / self.r_max) ** 2) ** 2, 0.0)
        fall = np.where(r < self.r_max, -4 * r / self.r_max**2 * (1 - (r / self.r_max) ** 2), 0.0)
        return energy * end, slope * end + energy * fall

    def __call__(self, structures: list[Atoms]) -> tuple[np.ndarray, list[np.ndarray]]:
        energies, forces = [], []
        for atoms in structures:
            find = neighbour_list if atoms.pbc.all() else neighbor_list  # ASE's is slow in a cell
            i, _, d, vector = find("ijdD", atoms, self.r_max)
            energy, slope = self.pair(d)
            force = np.zeros((len(atoms), 3))
            np.add.at(force, i, (slope / np.maximum(d, 1e-9))[:, None] * vector)
            energies.append(0.5 * energy.sum() + sum(self.e0s[s] for s in atoms.symbols))
            forces.append(force)
        return np.array(energies), forces


@cache
def _relaxed() -> list[Atoms]:
    water, carbon = molecule("H2O"), molecule("CO2")
    carbon.rattle(0.3, seed=1)  # out of its line: all pairs attract
    relax(Morse(), [water, carbon], 300)
    return [water, carbon]


def sample() -> Sample:
    water, carbon = copy.deepcopy(_relaxed())
    crystal = bulk("Cu", "fcc", a=2.0)
    holdout = molecule("CH4")
    energies, forces = Morse()([holdout])
    holdout.info[ENERGY], holdout.arrays[FORCES] = energies[0] + 0.05, forces[0] + 0.01
    settings = {"nve": {"steps": 300}, "heating": {"steps": 200, "end": 600.0}}
    settings["holes"] = {"structures": 12, "steps": 40}
    ranges = {(a, b): (0.9, 4.0) for a in (1, 6, 8) for b in (1, 6, 8) if a <= b}
    made = Sample([water, carbon], [1, 6, 8], [holdout], dict(Morse.e0s), [crystal], settings)
    made.ranges = ranges  # in place of those of structures
    return made
