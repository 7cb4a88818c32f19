"""Relax many structures at once, until what becomes of each is known."""

from collections.abc import Callable

import numpy as np
from ase import Atoms

from lora.calculators.potential import Potential

LOOK = 10  # steps between two looks at what has become of the structures
REACH = 0.1  # Å, the most that an atom moves in a step

# numbers of structures [m], their energies [m] (eV), largest forces [m] (eV/Å), steps left -> [m]
Known = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


class Fire:
    """Steps to lower energies (FIRE, doi 10.1103/PhysRevLett.97.170201), of many structures.

    Each has its own time step, which begins at 0.3: from random places it may be long.  What has
    come into motion crosses small barriers, as in MD; so holes are found that a descent without
    velocities does not come into.  Arrays have the atoms of the largest structure; in smaller ones
    the last ones stand still.
    """

    def __init__(self, n: int) -> None:
        """Begin with structures at rest.

        Args:
            n: The number of structures.
        """
        self.velocity: np.ndarray | None = None
        self.dt, self.mix, self.good = np.full(n, 0.3), np.full(n, 0.1), np.zeros(n, dtype=int)

    def keep(self, which: np.ndarray) -> None:
        """Forget structures.

        Args:
            which: True for each that is kept.
        """
        self.dt, self.mix, self.good = self.dt[which], self.mix[which], self.good[which]
        if self.velocity is not None:
            self.velocity = self.velocity[which]

    def step(self, forces: np.ndarray) -> np.ndarray:
        """Return how far each atom moves (Å), [n, n_atoms, 3].

        Args:
            forces: The forces [n, n_atoms, 3] (eV/Å).
        """
        if self.velocity is None:
            self.velocity = np.zeros_like(forces)
        else:
            self._turn(forces, self.velocity)
        self.velocity = self.velocity + _each(self.dt) * forces
        step: np.ndarray = _each(self.dt) * self.velocity
        length = np.linalg.norm(step, axis=2, keepdims=True)
        return step * np.minimum(1, REACH / np.maximum(length, 1e-12))

    def _turn(self, forces: np.ndarray, velocity: np.ndarray) -> None:
        """Turn velocities towards the forces, and stop what moves uphill."""
        downhill = _total(forces * velocity) > 0
        self.good = np.where(downhill, self.good + 1, 0)
        steady = self.good > 5
        grown = np.where(steady, np.minimum(1.1 * self.dt, 1.0), self.dt)
        self.dt = np.where(downhill, grown, 0.5 * self.dt)
        self.mix = np.where(downhill, np.where(steady, 0.99 * self.mix, self.mix), 0.1)
        ratio = np.sqrt(_total(velocity**2) / np.maximum(_total(forces**2), 1e-12))
        turned = _each(ratio) * forces - velocity
        self.velocity = (velocity + _each(self.mix) * turned) * _each(downhill)


def relax(
    potential: Potential,
    structures: list[Atoms],
    steps: int,
    known: Known | None = None,
    watch: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Move structures to lower energies, all at once.

    Args:
        potential: The potential.
        structures: The structures, whose positions change.
        steps: The most steps.
        known: Called every `LOOK` steps, and at the end; returns of which structures is known what
            becomes of them, and they go no further.
        watch: Called with the number of steps that are done, before each.

    Returns:
        The last energy of each (eV), [n].
    """
    going, fire = np.arange(len(structures)), Fire(len(structures))
    last = np.zeros(len(structures))
    for done in range(steps + 1):
        watch(done)
        energies, split = potential([structures[i] for i in going])
        forces, last[going] = _padded(split), energies
        if known and (done % LOOK == 0 or done == steps):
            largest = np.abs(forces).max(axis=(1, 2))
            left = ~known(going, energies, largest, steps - done)
            going, forces = going[left], forces[left]
            fire.keep(left)
        if done == steps or not len(going):
            break
        for i, step in zip(going, fire.step(forces), strict=True):
            structures[i].positions += step[: len(structures[i])]
    return last


def _padded(forces: list[np.ndarray]) -> np.ndarray:
    """Return forces [n, n_atoms, 3], zero where a structure has no such atom, or no such number."""
    out = np.zeros((len(forces), max(map(len, forces)), 3))
    for row, own in zip(out, forces, strict=True):
        row[: len(own)] = np.nan_to_num(own, posinf=0.0, neginf=0.0)
    return out


def _total(values: np.ndarray) -> np.ndarray:
    """Return the sum over each structure."""
    total: np.ndarray = values.sum(axis=(1, 2))
    return total


def _each(values: np.ndarray) -> np.ndarray:
    """Return a number of each structure for each of its components."""
    return values[:, None, None]
