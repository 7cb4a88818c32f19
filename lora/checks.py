"""Checks of a fine-tuned potential that no test set makes: what it forgot, and whether it is sound.

Each takes a potential and a sample of structures and gives one number, lower is better, and its
details.  A limit holds for the number itself, for its ratio to the foundation model's number, or
for its excess over it; the choice among the points applies it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.signal import find_peaks
from scipy.spatial.transform import Rotation

from lora.potential import Potential
from lora.structures import ENERGY, FORCES

N_STRUCTURES = 4  # of the validation set, for checks that hold for any structure
STEP = 1e-4  # Å, of finite differences
POINTS = 61  # of a dimer curve
WELL = 0.1  # eV, a second minimum that is shallower counts as none
JUMP = 0.1  # eV, and share of the step, between two points of a dimer curve that its forces
# do not explain
VOLUMES = np.linspace(0.88, 1.12, 13)


class NotCheckedError(Exception):
    """The sample has nothing to check on, and why."""


@dataclass
class Sample:
    """What the checks work on.

    structures: a few of the validation set
    holdout: labelled structures of the foundation model's own level of theory, or none
    e0s: E0s of that level {symbol: eV}
    crystals: periodic structures of the data, one a composition
    numbers: atomic numbers of the data
    settings: {check: {name: value}} over the arguments of each
    """

    structures: list[Atoms]
    numbers: list[int]
    holdout: list[Atoms] = field(default_factory=list)
    e0s: dict[str, float] = field(default_factory=dict)
    crystals: list[Atoms] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Check:
    """One check: its number's unit and meaning, and the limit that it has to keep by default."""

    name: str
    run: Callable[..., tuple[float, dict[str, Any]]]
    unit: str
    limit: float
    compare: Literal["absolute", "ratio", "excess"]
    meaning: str
    source: str = ""


def forgetting(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Force RMSE (meV/Å) on structures of the foundation model's own level of theory.

    Energies are compared without the E0s of either level: meV/atom in the details.
    """
    if not sample.holdout:
        raise NotCheckedError("checks.holdout_file is not set")
    energies, forces = potential(sample.holdout)
    n = np.array([len(atoms) for atoms in sample.holdout])
    changed = {s: e - sample.e0s.get(s, e) for s, e in potential.e0s.items()}
    shift = [sum(changed[s] for s in atoms.symbols) for atoms in sample.holdout]
    truth = np.array([atoms.info[ENERGY] for atoms in sample.holdout])
    wrong = (energies - shift - truth) / n
    difference = np.concatenate(forces) - np.concatenate([a.arrays[FORCES] for a in sample.holdout])
    detail = {"rmse_e_mev_per_atom": 1e3 * rms(wrong), "n_structures": len(n)}
    return 1e3 * rms(difference), detail


def gradients(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Largest difference of a force from the finite difference of the energy (eV/Å)."""
    rng, moved, found = np.random.default_rng(sample.seed), [], []
    _, forces = potential(sample.structures)
    for atoms, own in zip(sample.structures, forces, strict=True):
        for atom, axis in zip(
            rng.integers(len(atoms), size=5), rng.integers(3, size=5), strict=True
        ):
            for sign in (1, -1):
                copy = atoms.copy()
                copy.positions[atom, axis] += sign * STEP
                moved.append(copy)
            found.append(own[atom, axis])
    energies, _ = potential(moved)
    slopes = -(energies[0::2] - energies[1::2]) / (2 * STEP)
    return float(np.abs(slopes - found).max()), {}


def symmetry(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Largest change of a force (eV/Å) or energy (eV) under rotation, reflection, translation
    and permutation, turned back."""
    rng = np.random.default_rng(sample.seed)
    energies, forces = potential(sample.structures)
    residuals = {}
    turn = Rotation.random(random_state=sample.seed).as_matrix()
    for name, matrix, shift in (
        ("rotation", turn, 0.0),
        ("reflection", -turn, 0.0),
        ("translation", np.eye(3), rng.uniform(-3, 3, size=3)),
    ):
        turned = []
        for atoms in sample.structures:
            copy = atoms.copy()
            copy.set_cell(atoms.cell.array @ matrix.T)
            copy.positions = atoms.positions @ matrix.T + shift
            turned.append(copy)
        residuals[name] = _residual(potential(turned), energies, [f @ matrix.T for f in forces])
    orders = [rng.permutation(len(atoms)) for atoms in sample.structures]
    mixed = [atoms[order] for atoms, order in zip(sample.structures, orders, strict=True)]
    expected = [f[order] for f, order in zip(forces, orders, strict=True)]
    residuals["permutation"] = _residual(potential(mixed), energies, expected)
    return max(residuals.values()), residuals


def extensivity(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Energy of two copies far apart against twice the energy of one (eV); molecules only."""
    molecules = [atoms for atoms in sample.structures if not atoms.pbc.any()]
    if not molecules:
        raise NotCheckedError("all structures are periodic")
    pairs = [atoms + _moved(atoms, _reach(potential, atoms)) for atoms in molecules]
    one, _ = potential(molecules)
    two, _ = potential(pairs)
    return float(np.abs(two - 2 * one).max()), {}


def locality(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Largest change of a force (eV/Å) when an atom moves beyond the model's reach."""
    molecules = [atoms for atoms in sample.structures if not atoms.pbc.any()]
    if not molecules:
        raise NotCheckedError("all structures are periodic")
    near, far = [], []
    for atoms in molecules:
        reach = _reach(potential, atoms)
        near.append(atoms + _moved(atoms[:1], reach))
        far.append(atoms + _moved(atoms[:1], reach + 1.0))
    _, before = potential(near)
    _, after = potential(far)
    changes = [np.abs(a[:-1] - b[:-1]).max() for a, b in zip(before, after, strict=True)]
    return float(max(changes)), {}


def atoms_alone(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Largest difference of a free atom's energy from its E0 (eV)."""
    energies, _ = potential([Atoms([z]) for z in sample.numbers])
    alone = [Atoms([z]).symbols[0] for z in sample.numbers]
    wrong = [float(e) - potential.e0s[s] for e, s in zip(energies, alone, strict=True)]
    return float(np.abs(wrong).max()), dict(zip(alone, wrong, strict=True))


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


def _residual(
    found: tuple[np.ndarray, list[np.ndarray]], energies: np.ndarray, forces: list[np.ndarray]
) -> float:
    wrong = [np.abs(a - b).max() for a, b in zip(found[1], forces, strict=True)]
    return float(max(np.abs(found[0] - energies).max(), *wrong))


def _reach(potential: Potential, atoms: Atoms) -> float:
    """Farther than anything in a structure can see (Å)."""
    return float(np.ptp(atoms.positions, axis=0).max()) + 2 * potential.depth * potential.r_max + 1


def _moved(atoms: Atoms, distance: float) -> Atoms:
    copy = atoms.copy()
    copy.positions += [distance, 0.0, 0.0]
    return copy


def rms(values: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
