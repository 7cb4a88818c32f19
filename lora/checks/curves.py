"""Checks of energy curves: of all pairs of elements, of crystals over their volume."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.signal import find_peaks

from lora.calculators.potential import Potential
from lora.checks.base import NotCheckedError, Sample

POINTS = 61  # of a dimer curve
WELL = 0.1  # eV, a second minimum that is shallower counts as none
JUMP = 0.1  # eV, and share of the step, between two points of a dimer curve that its forces
# do not explain
VOLUMES = np.linspace(0.88, 1.12, 13)


def dimers(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Faults of the energy curves of all pairs of elements, from half the bond length on.

    A fault each: no wall (the energy does not rise all the way inwards of 0.7 bond lengths), a
    second minimum, a jump.
    """
    faults, curves = [], {}
    numbers = sample.numbers
    for i, a in enumerate(numbers):
        for b in numbers[i:]:
            bond = covalent_radii[a] + covalent_radii[b]
            r = np.linspace(0.5 * bond, potential.r_max + 0.5, POINTS)
            pairs = [Atoms([a, b], [[0, 0, 0], [0, 0, x]]) for x in r]
            energies, forces = potential(pairs)
            name = f"{pairs[0].symbols[0]}-{pairs[0].symbols[1]}"
            energies = energies - energies[-1]
            slope = np.array([-f[1, 2] for f in forces])  # dE/dr
            faults += [f"{name}: {fault}" for fault in _curve_faults(r / bond, r, energies, slope)]
            curves[name] = {"r": r.round(4).tolist(), "energy": energies.round(5).tolist()}
    return float(len(faults)), {"faults": faults, "curves": curves}


def _curve_faults(x: np.ndarray, r: np.ndarray, energy: np.ndarray, slope: np.ndarray) -> list[str]:
    """What is wrong with a dimer curve; x in bond lengths, r in Å, slope dE/dr."""
    found = []
    if not (np.diff(energy[x < 0.75]) < 0).all():
        found.append("no wall")
    if len(find_peaks(-energy, prominence=WELL)[0]) > 1:
        found.append("second minimum")
    explained = 0.5 * (slope[1:] + slope[:-1]) * np.diff(r)
    outside = x[1:] > 0.75
    allowed = JUMP * (1 + np.abs(explained))
    if (np.abs(np.diff(energy) - explained) > allowed)[outside].any():
        found.append("jump")
    return found


def equation_of_state(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Crystals whose energy over volume, at 88 to 112 %, has more than one turn."""
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
