"""Search for holes at random.

A hole is a region where the energy is far too low, into which a simulation falls.  Test sets do not
show holes; random structures that are relaxed find them (arXiv 2606.12704).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from lora.calculators.potential import Potential
from lora.checks.base import Sample
from lora.checks.dynamics import TOUCHING, closest

DEEP = 1.0  # eV/atom below the lowest structure of the data: a hole


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
        steps: The number of steps of the relaxation (FIRE), which all go through together.

    Returns:
        The share that fell into holes (%), and the numbers of those that collapsed or are too low.
    """
    rng = np.random.default_rng(sample.seed)
    kinds = [sample.structures[i % len(sample.structures)] for i in range(structures)]
    thrown = [throw(atoms, rng) for atoms in kinds]
    floor, _ = potential(sample.structures)
    lowest = np.array([floor[i % len(floor)] / len(a) for i, a in enumerate(kinds)]) - DEEP
    energies = relax(
        potential, thrown, steps, lambda i: sample.meter.at("holes", i, steps, "steps")
    )
    n = np.array([len(atoms) for atoms in thrown])
    collapsed = np.array([closest(atoms) < TOUCHING for atoms in thrown])
    deep = ~(energies / n >= lowest)  # true also where the energy is not a number
    count = int((collapsed | deep).sum())
    detail = {"collapsed": int(collapsed.sum()), "too_low": int(deep.sum()), "structures": len(n)}
    return 100.0 * count / len(n), detail


def throw(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return the same atoms at random places, no two nearer than 0.8 sums of covalent radii.

    Args:
        atoms: The structure.
        rng: The random numbers.
    """
    out = atoms.copy()
    out.info, radii = {}, covalent_radii[atoms.numbers]
    side = (len(atoms) * 14.0) ** (1 / 3)  # Å; 14 Å^3 an atom
    for i in range(len(out)):
        for _ in range(1000):
            place = rng.uniform(size=3)
            out.positions[i] = place @ atoms.cell.array if atoms.pbc.all() else side * place
            near = out.get_distances(i, list(range(i)), mic=bool(atoms.pbc.any())) if i else []
            if np.all(near > 0.8 * (radii[i] + radii[:i])):
                break
            side *= 1.0005
    return out


def relax(
    potential: Potential,
    structures: list[Atoms],
    steps: int,
    watch: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Move structures to lower energies, all at once (FIRE, doi 10.1103/PhysRevLett.97.170201).

    No atom moves by more than 0.1 Å a step.

    Args:
        potential: The potential.
        structures: The structures, whose positions change.
        steps: The number of steps.
        watch: Called with the number of steps that are done, before each.

    Returns:
        The energies at the end (eV), [n].
    """
    n = len(structures)
    owner = np.repeat(np.arange(n), [len(a) for a in structures])
    velocity = np.zeros((len(owner), 3))
    dt, mix, good = np.full(n, 0.1), np.full(n, 0.1), np.zeros(n, dtype=int)

    def total(values: np.ndarray) -> np.ndarray:
        """Return the sum over the atoms of each structure."""
        return np.bincount(owner, weights=values.sum(axis=1), minlength=n)

    energies = np.zeros(n)
    for done in range(steps):
        watch(done)
        energies, split = potential(structures)
        forces = np.nan_to_num(np.concatenate(split))
        downhill = total(forces * velocity) > 0
        good = np.where(downhill, good + 1, 0)
        dt = np.where(downhill, np.where(good > 5, np.minimum(1.1 * dt, 1.0), dt), 0.5 * dt)
        share = np.where(good > 5, 0.99 * mix, mix)
        mix = np.where(downhill, share, 0.1)
        ratio = np.sqrt(total(velocity**2) / np.maximum(total(forces**2), 1e-12))
        turned = ratio[owner, None] * forces - velocity
        velocity = (velocity + mix[owner, None] * turned) * downhill[owner, None]
        velocity += dt[owner, None] * forces
        step = dt[owner, None] * velocity
        step *= np.minimum(1, 0.1 / np.maximum(np.linalg.norm(step, axis=1), 1e-12))[:, None]
        for i, atoms in enumerate(structures):
            atoms.positions += step[owner == i]
    energies, _ = potential(structures)
    return energies
