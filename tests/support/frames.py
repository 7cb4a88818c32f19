"""Structures as users have them: trajectories, crystals, free atoms, labels of any name."""

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule


def molecules(n: int, seed: int = 0, walk: float = 0.0) -> list[Atoms]:
    """Ethanols: frames of a slow walk, or each on its own."""
    rng = np.random.default_rng(seed)
    start, moved, out = molecule("CH3CH2OH"), 0.0, []
    for _ in range(n):
        kick = rng.normal(scale=0.1, size=(9, 3))
        moved = (1 - walk) * moved + walk**0.5 * kick if walk else kick
        atoms = start.copy()
        atoms.positions += moved
        out.append(atoms)
    return out


def crystals(n: int, seed: int = 0) -> list[Atoms]:
    """Rattled cells of copper."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, 2)
        atoms.rattle(0.1, rng=rng)
        out.append(atoms)
    return out


def labelled(
    frames: list[Atoms], energy: str = "REF_energy", forces: str = "REF_forces", /, **more: object
) -> list[Atoms]:
    """The same structures with labels under names of ours or others."""
    for i, atoms in enumerate(frames):
        atoms.info |= {energy: -1.0 - i, **more}
        atoms.arrays[forces] = np.zeros((len(atoms), 3))
    return frames


def free_atoms(symbols: str, **info: object) -> list[Atoms]:
    """Atoms alone, with labels."""
    return labelled([Atoms(x) for x in symbols], **info)
