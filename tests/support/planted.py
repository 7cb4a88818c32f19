"""A potential with holes of a known rate: molecules of Morse pairs, many at once, in numpy."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.data import covalent_radii


@dataclass
class Planted:
    """Morse pairs at the sum of covalent radii, and a hole.

    weak: the wall of a pair ends at this many bonds, and it collapses
    calls, asked: questions so far, and structures in them
    """

    weak: float | None = None
    calls: int = 0
    asked: int = 0

    r_max, depth = 6.0, 1
    e0s: ClassVar = {"H": -1.0, "C": -2.0, "O": -3.0}
    WELL, STIFF, HOLE = 3.0, 2.0, 40.0  # eV, 1/Å, eV

    def __call__(self, structures: list[Atoms]) -> tuple[np.ndarray, list[np.ndarray]]:
        self.calls, self.asked = self.calls + 1, self.asked + len(structures)
        energies, forces = np.zeros(len(structures)), [np.zeros(0)] * len(structures)
        for n in {len(atoms) for atoms in structures}:
            own = [i for i, atoms in enumerate(structures) if len(atoms) == n]
            found = self._of_equal_size([structures[i] for i in own])
            for i, energy, force in zip(own, *found, strict=True):
                energies[i], forces[i] = energy, force
        return energies, forces

    def _of_equal_size(self, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        places = np.array([atoms.positions for atoms in structures])  # [m, n, 3]
        radii = np.array([covalent_radii[atoms.numbers] for atoms in structures])
        bond = radii[:, :, None] + radii[:, None]  # [m, n, n]
        vector = places[:, :, None] - places[:, None]
        r = np.sqrt((vector**2).sum(axis=-1)) + 1e6 * np.eye(places.shape[1])
        x = np.exp(-self.STIFF * np.minimum(r - bond, 50.0))
        energy, slope = self.WELL * (x**2 - 2 * x), 2 * self.STIFF * self.WELL * (x - x**2)
        if self.weak is not None:
            within = r < self.weak * bond
            energy = np.where(within, self.HOLE * (r / bond / self.weak - 2.0), energy)
            slope = np.where(within, self.HOLE / bond / self.weak, slope)
        total = 0.5 * energy.sum(axis=(1, 2))
        forces = -(slope / np.maximum(r, 1e-9))[..., None] * vector
        alone = [sum(self.e0s[s] for s in atoms.symbols) for atoms in structures]
        return total + alone, forces.sum(axis=2)
