"""Check molecular dynamics: energy drift and heating."""

from functools import partial
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
from scipy.spatial.distance import pdist

from lora.calculators.company import together
from lora.calculators.potential import Potential, Single
from lora.checks.base import NotCheckedError, Sample
from lora.data.statistics import drift

APART = 2.0  # sums of covalent radii; atoms farther apart do not hold together
TOUCHING = 0.55  # sums of covalent radii; atoms nearer than this have collapsed
HOT = 5.0  # an explosion: the temperature over that of the thermostat
EVERY = 5  # steps between two energies of a run
SAMPLES = 200  # of the energy over time that are kept
FORCE = 100.0  # an explosion: a force component (eV/Å)


def energy_drift(
    potential: Potential,
    sample: Sample,
    steps: int,
    timestep: float,
    temperature: float,
) -> tuple[float, dict[str, Any]]:
    """Measure the drift of the total energy in MD at constant energy (velocity Verlet).

    Two standard errors of the slope are subtracted, which vibrations alone would give.

    Args:
        potential: The potential.
        sample: The structures; the first of more than one atom is used.
        steps: The number of MD steps.
        timestep: The time step (fs).
        temperature: The temperature at the start (K).

    Returns:
        The drift (meV/atom/ps), infinite where the run explodes; slope, standard error, and the
        curve: energy over that at the start (meV/atom) against time (ps), of at most `SAMPLES`
        numbers.

    Raises:
        NotCheckedError: All structures have one atom, or the run is too short.
    """
    if steps < 2 * EVERY:
        raise NotCheckedError(f"{steps} steps say nothing of a drift; it takes {2 * EVERY} steps")
    first = next((x for x in sample.structures if len(x) > 1), None)
    if first is None:
        raise NotCheckedError("all structures have one atom, which does not move by itself")
    atoms = first.copy()
    atoms.calc = Single(potential)
    rng = np.random.default_rng(sample.seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    energies: list[float] = []
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=EVERY)
    dynamics.attach(lambda: sample.meter.at("nve", dynamics.nsteps, steps, "steps"), interval=EVERY)
    dynamics.run(steps)
    per_atom = 1e3 * np.array(energies) / len(atoms)
    if not np.isfinite(per_atom).all():
        return float("inf"), {}
    times = np.arange(len(per_atom)) * EVERY * timestep / 1000
    found = drift(times, per_atom)
    drawn = slice(None, None, -(-len(times) // SAMPLES))
    curve = {
        "ps": times[drawn].round(6).tolist(),
        "energy": (per_atom - per_atom[0])[drawn].round(6).tolist(),
    }
    value = abs(found["slope"]) - 2 * found["standard_error"]
    value = float("inf") if np.isnan(value) else max(0.0, value)
    return value, {**found, "curve": curve}


def heating(
    potential: Potential,
    sample: Sample,
    steps: int,
    timestep: float,
    start: float,
    end: float,
) -> tuple[float, dict[str, Any]]:
    """Count the runs of Langevin dynamics with a rising temperature that fail, one a structure.

    A run fails if an atom or a fragment comes off, if two atoms collapse, or if it explodes.

    Args:
        potential: The potential.
        sample: The structures.
        steps: The number of MD steps of a run.
        timestep: The time step (fs).
        start: The temperature at the start (K).
        end: The temperature at the end (K).

    Returns:
        The number of failures; each failure in words, and the number of runs.
    """
    ends = (start, end)
    found = together(
        [
            partial(_heat, potential, atoms.copy(), (steps, timestep), ends, sample, i)
            for i, atoms in enumerate(sample.structures)
        ]
    )
    named = zip(sample.structures, found, strict=True)
    failures = [f"{atoms.symbols}: {failure}" for atoms, failure in named if failure]
    return float(len(failures)), {"failures": failures, "runs": len(found)}


def _heat(
    potential: Potential,
    atoms: Atoms,
    time: tuple[int, float],
    temperatures: tuple[float, float],
    sample: Sample,
    number: int,
) -> str:
    """Return how a run failed and at which temperature; empty where it did not.

    Args:
        potential: The potential.
        atoms: The structure, which moves.
        time: The number of MD steps, and the time step (fs).
        temperatures: Those at the start and at the end (K).
        sample: The structures of all runs, and what says how far they are.
        number: Which of them it is.
    """
    steps, timestep = time
    rng = np.random.default_rng(sample.seed + number)
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
        sample.meter.at("heating", done, steps, "steps")
        now = temperatures[0] + (temperatures[1] - temperatures[0]) * done / steps
        dynamics.set_temperature(temperature_K=now)
        dynamics.run(min(20, steps - done))
        if failure := failure_of(atoms, pieces, now):
            return f"{failure} at {now:.0f} K"
    return ""


def fragments(atoms: Atoms) -> int:
    """Return the number of pieces that a structure consists of.

    Args:
        atoms: The structure; atoms nearer than `APART` sums of covalent radii hold together.
    """
    i, j, d = neighbor_list("ijd", atoms, 2 * APART * covalent_radii[atoms.numbers].max())
    near = d < APART * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    held = coo_matrix((near, (i, j)), shape=(len(atoms), len(atoms)))
    return int(connected_components(held)[0])


def failure_of(atoms: Atoms, pieces: int, temperature: float) -> str:
    """Return how a run has failed by now; empty where it has not.

    Args:
        atoms: The structure as it is now, with its calculator and momenta.
        pieces: The number of pieces that the run began with.
        temperature: That of the thermostat, in K.
    """
    forces = atoms.get_forces()
    if not np.isfinite(forces).all() or np.abs(forces).max() > FORCE:
        return "explosion"
    if atoms.get_temperature() > HOT * temperature:
        return "explosion"
    if closest(atoms) < TOUCHING:
        return "collapse"
    return "falls apart" if fragments(atoms) > pieces else ""


def closest(atoms: Atoms) -> float:
    """Return the smallest distance in a structure, in sums of covalent radii.

    Args:
        atoms: The structure; where it is above 1, or of a lone atom, it may be infinite.
    """
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        i, j, d = neighbor_list("ijd", atoms, 2 * radii.max())
    else:
        (i, j), d = np.triu_indices(len(atoms), 1), pdist(atoms.positions)
    return float((d / (radii[i] + radii[j])).min(initial=np.inf))
