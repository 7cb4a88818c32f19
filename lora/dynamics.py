"""Checks that move the atoms: energy drift, heating, and a random search for holes.

A hole is a region where a potential is far too low, into which a simulation falls.  Test sets
do not show it; random structures that are relaxed find it (arXiv 2606.12704).
"""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import linregress

from lora.checks import Sample
from lora.potential import Potential, Single

BLOCKS = 10  # of a run, whose mean energies the drift is fitted to
APART = 2.0  # sums of covalent radii from which two atoms no longer hold together
TOUCHING = 0.55  # sums of covalent radii under which two atoms have collapsed
HOT = 5.0  # times the thermostat's temperature: an explosion
FORCE = 100.0  # eV/Å: an explosion
DEEP = 1.0  # eV/atom below the lowest structure of the data: a hole


def energy_drift(
    potential: Potential,
    sample: Sample,
    steps: int = 500,
    timestep: float = 0.5,
    temperature: float = 300.0,
) -> tuple[float, dict[str, Any]]:
    """Drift of the total energy at constant energy (meV/atom/ps), by velocity Verlet.

    What the vibrations alone would give, two standard errors of the slope, is not counted.

    Args:
        timestep: fs
        temperature: K, of the start
    """
    atoms = sample.structures[0].copy()
    atoms.calc = Single(potential)
    rng = np.random.default_rng(sample.seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    energies: list[float] = []
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=5)
    dynamics.run(steps)
    per_atom = 1e3 * np.array(energies) / len(atoms)
    if not np.isfinite(per_atom).all():
        return float("inf"), {}
    detail = drift(np.arange(len(per_atom)) * 5 * timestep / 1000, per_atom)
    return max(0.0, abs(detail["slope"]) - 2 * detail["standard_error"]), detail


def drift(times: np.ndarray, energies: np.ndarray) -> dict[str, float]:
    """Slope of energies [n] over times [n] (ps), fitted to the means of blocks, and its error."""
    parts = list(zip(np.array_split(times, BLOCKS), np.array_split(energies, BLOCKS), strict=True))
    fit = linregress([t.mean() for t, _ in parts], [e.mean() for _, e in parts])
    return {"slope": float(fit.slope), "standard_error": float(fit.stderr), "ps": float(times[-1])}


def heating(
    potential: Potential,
    sample: Sample,
    steps: int = 2000,
    timestep: float = 0.5,
    start: float = 300.0,
    end: float = 1500.0,
) -> tuple[float, dict[str, Any]]:
    """Failures of Langevin dynamics with a rising temperature, of one run a structure.

    A failure each: an atom or a fragment comes off, two atoms collapse, the run explodes.

    Args:
        timestep: fs
        start, end: K
    """
    failures = []
    for i, atoms in enumerate(sample.structures):
        failure = _heat(potential, atoms.copy(), steps, timestep, (start, end), sample.seed + i)
        if failure:
            failures.append(f"{atoms.symbols}: {failure}")
    return float(len(failures)), {"failures": failures, "runs": len(sample.structures)}


def _heat(
    potential: Potential,
    atoms: Atoms,
    steps: int,
    timestep: float,
    temperatures: tuple[float, float],
    seed: int,
) -> str:
    """One run.  Returns what failed and when, or ""."""
    rng = np.random.default_rng(seed)
    atoms.calc = Single(potential)
    pieces = fragments(atoms)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperatures[0], rng=rng)
    dynamics = Langevin(
        atoms,
        timestep * units.fs,
        temperature_K=temperatures[0],
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    for done in range(0, steps, 20):
        now = temperatures[0] + (temperatures[1] - temperatures[0]) * done / steps
        dynamics.set_temperature(temperature_K=now)
        dynamics.run(min(20, steps - done))
        if failure := _failure(atoms, pieces, now):
            return f"{failure} at {now:.0f} K"
    return ""


def fragments(atoms: Atoms) -> int:
    """Into how many pieces a structure falls."""
    i, j, d = neighbor_list("ijd", atoms, 2 * APART * covalent_radii[atoms.numbers].max())
    near = d < APART * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    held = coo_matrix((near, (i, j)), shape=(len(atoms), len(atoms)))
    return int(connected_components(held)[0])


def _failure(atoms: Atoms, pieces: int, temperature: float) -> str:
    forces = atoms.get_forces()
    if not np.isfinite(forces).all() or np.abs(forces).max() > FORCE:
        return "explosion"
    if atoms.get_temperature() > HOT * temperature:
        return "explosion"
    if closest(atoms) < TOUCHING:
        return "collapse"
    return "falls apart" if fragments(atoms) > pieces else ""


def closest(atoms: Atoms) -> float:
    """Smallest distance in a structure, in sums of covalent radii; infinite for a lone atom."""
    i, j, d = neighbor_list("ijd", atoms, 1.5)
    if not len(d):
        return float("inf")
    return float((d / (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])).min())


def holes(
    potential: Potential, sample: Sample, structures: int = 100, steps: int = 100
) -> tuple[float, dict[str, Any]]:
    """Holes that random structures fall into, percent of them, all relaxed together by FIRE.

    A random structure has the atoms of one of the data, thrown into a box (or its cell) without
    touching.  It has fallen into a hole if two atoms collapse, if its energy is more than `DEEP`
    below the lowest of the data's, or if its energy is no number.

    Args:
        structures: how many random ones
        steps: of the relaxation
    """
    rng = np.random.default_rng(sample.seed)
    kinds = [sample.structures[i % len(sample.structures)] for i in range(structures)]
    thrown = [throw(atoms, rng) for atoms in kinds]
    floor, _ = potential(sample.structures)
    lowest = np.array([floor[i % len(floor)] / len(a) for i, a in enumerate(kinds)]) - DEEP
    energies = relax(potential, thrown, steps)
    n = np.array([len(atoms) for atoms in thrown])
    collapsed = np.array([closest(atoms) < TOUCHING for atoms in thrown])
    deep = ~(energies / n >= lowest)  # also where it is no number
    count = int((collapsed | deep).sum())
    detail = {"collapsed": int(collapsed.sum()), "too_low": int(deep.sum()), "structures": len(n)}
    return 100.0 * count / len(n), detail


def throw(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The same atoms at random places, no two nearer than 0.8 sums of their covalent radii."""
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


def relax(potential: Potential, structures: list[Atoms], steps: int) -> np.ndarray:
    """Move structures to lower energies, all at once (FIRE, doi 10.1103/PhysRevLett.97.170201).

    No atom moves by more than 0.1 Å a step.  Returns the energies [n] (eV).
    """
    n = len(structures)
    owner = np.repeat(np.arange(n), [len(a) for a in structures])
    velocity = np.zeros((len(owner), 3))
    dt, mix, good = np.full(n, 0.1), np.full(n, 0.1), np.zeros(n, dtype=int)

    def total(values: np.ndarray) -> np.ndarray:
        """Sum over the atoms of each structure."""
        return np.bincount(owner, weights=values.sum(axis=1), minlength=n)

    energies = np.zeros(n)
    for _ in range(steps):
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
