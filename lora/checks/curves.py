"""Check energy curves: of all pairs of elements, and of crystals over their volume."""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from scipy.signal import find_peaks

from lora.calculators.potential import Potential
from lora.checks.base import NotCheckedError, Sample

N_SAMPLES = 61  # of a dimer curve
# a jump: the energy between two points of a dimer curve changes by this much (eV), plus this share
# of the step, more than the forces explain
JUMP = 0.1
VOLUMES = np.linspace(0.88, 1.12, 13)


def dimers(
    potential: Potential, sample: Sample, temperature: float
) -> tuple[float, dict[str, Any]]:
    """Count what MD would feel of the faults of the energy curves of all pairs of elements.

    Curves begin at half a bond length, the sum of the covalent radii.  Faults are: no wall (the
    energy does not rise all the way inwards of 0.75 bond lengths), a jump, and a second minimum
    that holds atoms at a temperature T: its barrier is higher than kT, and it lies at a distance
    that this pair has in the data, or it is deeper than the minimum that does.

    Args:
        potential: The potential.
        sample: The structures; its elements and distances of pairs are used.
        temperature: T (K).

    Returns:
        The number of faults; each fault in words, and the curves (Å, eV).
    """
    faults, curves = [], {}
    numbers = sample.numbers
    for i, a in enumerate(numbers):
        for b in numbers[i:]:
            bond = covalent_radii[a] + covalent_radii[b]
            r = np.linspace(0.5 * bond, potential.r_max + 0.5, N_SAMPLES)
            pairs = [Atoms([a, b], [[0, 0, 0], [0, 0, x]]) for x in r]
            energies, forces = potential(pairs)
            name = f"{pairs[0].symbols[0]}-{pairs[0].symbols[1]}"
            energies = energies - energies[-1]
            slope = np.array([-f[1, 2] for f in forces])  # dE/dr
            found = _curve_faults(r / bond, r, energies, slope)
            if _second_minimum(r, energies, units.kB * temperature, sample.ranges.get((a, b))):
                found.append("second minimum")
            faults += [f"{name}: {fault}" for fault in found]
            curves[name] = {"r": r.round(4).tolist(), "energy": energies.round(5).tolist()}
    return float(len(faults)), {"faults": faults, "curves": curves}


def _curve_faults(x: np.ndarray, r: np.ndarray, energy: np.ndarray, slope: np.ndarray) -> list[str]:
    """Return the faults of a dimer curve.

    Args:
        x: Distances in bond lengths, [n].
        r: Distances (Å), [n].
        energy: Energies (eV), [n].
        slope: dE/dr (eV/Å), [n].
    """
    found = []
    if not (np.diff(energy[x < 0.75]) < 0).all():
        found.append("no wall")
    explained = 0.5 * (slope[1:] + slope[:-1]) * np.diff(r)
    outside = x[1:] > 0.75
    allowed = JUMP * (1 + np.abs(explained))
    if (np.abs(np.diff(energy) - explained) > allowed)[outside].any():
        found.append("jump")
    return found


def _second_minimum(
    r: np.ndarray, energy: np.ndarray, barrier: float, occurs: tuple[float, float] | None
) -> bool:
    """Return True where a dimer curve has a second minimum that MD would feel.

    Args:
        r: Distances (Å), [n].
        energy: Energies (eV), [n].
        barrier: The lowest barrier that holds (eV).
        occurs: The shortest and longest distance of the pair in the data, None for no such pair.
    """
    wells, _ = find_peaks(-energy, prominence=barrier)
    low, high = occurs or (np.inf, 0.0)
    known = [i for i in wells if low <= r[i] <= high]
    if not known:  # no distance of the data holds: nothing to fall out of, or into
        return False
    main = min(known, key=lambda i: energy[i])
    return len(known) > 1 or any(energy[i] < energy[main] for i in wells)


def equation_of_state(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Count the crystals whose energy over volume, from 88 to 112 %, has more than one minimum.

    Args:
        potential: The potential.
        sample: The structures; its crystals are used.

    Returns:
        The number of such crystals, and the curves (eV/atom).

    Raises:
        NotCheckedError: No structure is periodic in all directions.
    """
    if not sample.crystals:
        raise NotCheckedError("no structure is periodic in all directions")
    bad, curves = 0, {}
    for atoms in sample.crystals:
        scaled = []
        for share in VOLUMES:
            copy = atoms.copy()
            copy.set_cell(atoms.cell * share ** (1 / 3), scale_atoms=True)
            scaled.append(copy)
        energies, _ = potential(scaled)
        turns = int((np.diff(np.sign(np.diff(energies))) < 0).sum())  # maxima
        bad += turns > 0 or not np.isfinite(energies).all()
        relative = (energies - energies.min()) / len(atoms)
        curves[str(atoms.symbols)] = dict(zip(VOLUMES.round(3).tolist(), relative, strict=True))
    return float(bad), {"curves": curves}
