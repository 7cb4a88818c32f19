"""Check the laws that every sound potential obeys: gradients, symmetry, extensivity, locality, E0s.

A limit holds for the number itself, for its ratio to the foundation model's number, or for its
excess over it; the choice among the points applies it.
"""

from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from lora.calculators.potential import Potential
from lora.checks.base import NotCheckedError, Sample

STEP = 1e-4  # Å, of finite differences


def gradients(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Compare forces with finite differences of the energy.

    Args:
        potential: The potential.
        sample: The structures.

    Returns:
        The largest difference of a force component (eV/Å), and no details.
    """
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
    """Compare energies and forces under rotation, reflection, translation and permutation.

    Args:
        potential: The potential.
        sample: The structures.

    Returns:
        The largest change of an energy (eV) or a force component (eV/Å), and the largest of each
        operation.
    """
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
    """Compare the energy of two copies far apart with twice the energy of one.

    Args:
        potential: The potential.
        sample: The structures; its molecules are used.

    Returns:
        The largest difference (eV), and no details.

    Raises:
        NotCheckedError: All structures are periodic.
    """
    molecules = [atoms for atoms in sample.structures if not atoms.pbc.any()]
    if not molecules:
        raise NotCheckedError("all structures are periodic")
    pairs = [atoms + _moved(atoms, _reach(potential, atoms)) for atoms in molecules]
    one, _ = potential(molecules)
    two, _ = potential(pairs)
    return float(np.abs(two - 2 * one).max()), {}


def locality(potential: Potential, sample: Sample) -> tuple[float, dict[str, Any]]:
    """Compare forces before and after an atom beyond the model's reach moves.

    Args:
        potential: The potential.
        sample: The structures; its molecules are used.

    Returns:
        The largest change of a force component (eV/Å), and no details.

    Raises:
        NotCheckedError: All structures are periodic.
    """
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
    """Compare the energies of free atoms with the E0s.

    Args:
        potential: The potential.
        sample: The structures; its elements are used.

    Returns:
        The largest difference (eV), and the difference of each element.
    """
    energies, _ = potential([Atoms([z]) for z in sample.numbers])
    alone = [Atoms([z]).symbols[0] for z in sample.numbers]
    wrong = [float(e) - potential.e0s[s] for e, s in zip(energies, alone, strict=True)]
    return float(np.abs(wrong).max()), dict(zip(alone, wrong, strict=True))


def _residual(
    found: tuple[np.ndarray, list[np.ndarray]], energies: np.ndarray, forces: list[np.ndarray]
) -> float:
    """Return the largest difference of energies (eV) and force components (eV/Å)."""
    wrong = [np.abs(a - b).max() for a, b in zip(found[1], forces, strict=True)]
    return float(max(np.abs(found[0] - energies).max(), *wrong))


def _reach(potential: Potential, atoms: Atoms) -> float:
    """Return a distance (Å) beyond which nothing in a structure is felt."""
    return float(np.ptp(atoms.positions, axis=0).max()) + 2 * potential.depth * potential.r_max + 1


def _moved(atoms: Atoms, distance: float) -> Atoms:
    """Return a copy that is moved along x (Å)."""
    copy = atoms.copy()
    copy.positions += [distance, 0.0, 0.0]
    return copy
