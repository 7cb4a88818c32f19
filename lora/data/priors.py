"""What is known of E0s before they are fitted: free atoms, tabulated atoms, the foundation model.

Data of few compositions leave E0s open.  There the fit stays near a prior, and gives way where the
prior is least certain.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.units import Hartree

from lora.catalogue.atoms import FREE_ATOMS

FREE, TABLE, FOUNDATION = "free atom", "tabulated atom", "foundation model"  # where priors are from
# How far a prior may be from the E0 that fits best (eV), Z being the atomic number.  Ratios count.
OFF_FREE = 1.0  # times sqrt(Z): what a foundation model gets wrong in binding; spin states
OFF_TABLE = 0.02  # of the tabulated energy, besides: other functionals, relativity
OFF_FOUNDATION = 10.0  # times Z: the cores that two codes leave out of their energies
# Atoms of the data over tabulated atoms.  All-electron codes give 1.0 to 1.15, from light to heavy
# elements; of one with pseudopotentials, whatever has a core gives less than 0.5.
ALL_ELECTRON = (0.75, 1.25)


@dataclass(frozen=True)
class Evidence:
    """All that E0s are chosen from.

    The arrays leave out free atoms, and structures without an energy or with weight 0.

    Attributes:
        symbols: The chemical symbols [n_elements] of the training set.
        bonded: True for elements that occur in more than free atoms, [n_elements].
        old: The foundation model's E0s (eV), [n_elements].
        counts: The atoms of each element, [n_structures, n_elements].
        energies: The total energies (eV), [n_structures].
        predicted: The foundation model's total energies (eV), [n_structures].
        weights: The weights of squared errors, above 0, [n_structures].
        free: The energies of free atoms at the level of theory of the data (eV), by symbol.
        frames: File and frame of each structure, for messages.
        path: The file of the training set, for messages.
        kinds: What each structure is, in words; structures of a kind are expected to be alike.
    """

    symbols: list[str]
    bonded: np.ndarray
    old: np.ndarray
    counts: np.ndarray
    energies: np.ndarray
    predicted: np.ndarray
    weights: np.ndarray
    free: dict[str, float]
    frames: list[str]
    path: str | Path
    kinds: list[str] = field(default_factory=list)

    @property
    def n_atoms(self) -> np.ndarray:
        """Return the atoms of each structure, [n_structures]."""
        total: np.ndarray = self.counts.sum(axis=1)
        return total

    @property
    def errors(self) -> np.ndarray:
        """Return energies minus the foundation model's, with its own E0s (eV), [n_structures]."""
        left: np.ndarray = self.energies - self.predicted
        return left

    @property
    def atomic(self) -> np.ndarray:
        """Return what the E0s have to account for, without interactions (eV), [n_structures]."""
        total: np.ndarray = self.errors + self.counts @ self.old
        return total


@dataclass(frozen=True)
class Priors:
    """What is known of each E0 before the fit.

    Attributes:
        energies: The values (eV), [n_elements].
        scales: How far each may be off (eV), [n_elements].
        sources: Where each is from: FREE, TABLE or FOUNDATION.
    """

    energies: np.ndarray
    scales: np.ndarray
    sources: list[str]


def choose_priors(evidence: Evidence) -> Priors:
    """Return a prior for each element: its free atom, else a tabulated one, else the foundation's.

    Tabulated atoms have all their electrons, so they are taken only where the data do, too.

    Args:
        evidence: The energies, and the free atoms that are known.
    """
    tabulated = has_all_electrons(evidence)
    rows: list[tuple[float, float, str]] = []
    for symbol, old in zip(evidence.symbols, evidence.old, strict=True):
        z = atomic_numbers[symbol]
        bound = OFF_FREE * z**0.5
        if symbol in evidence.free:
            rows.append((evidence.free[symbol], bound, FREE))
        elif tabulated and symbol in FREE_ATOMS:
            energy = FREE_ATOMS[symbol] * Hartree
            rows.append((energy, bound + OFF_TABLE * abs(energy), TABLE))
        else:
            rows.append((float(old), OFF_FOUNDATION * z, FOUNDATION))
    energies, scales, sources = zip(*rows, strict=True)
    return Priors(np.array(energies), np.array(scales), list(sources))


def has_all_electrons(evidence: Evidence) -> bool:
    """Return True where the energies have the size of all-electron ones.

    Compared are, a structure, the sum of atomic energies in the data, free atoms that are known
    taken off, and that of tabulated atoms; the median of their ratios decides, so that single
    structures do not.

    Args:
        evidence: The energies, and the free atoms that are known.
    """
    free = np.array([evidence.free.get(s, 0.0) for s in evidence.symbols])
    table = np.array([FREE_ATOMS.get(s, 0.0) * Hartree for s in evidence.symbols])
    left = np.array([s not in evidence.free for s in evidence.symbols])
    counts = evidence.counts * left
    usable = (counts.sum(axis=1) > 0) & ~counts[:, table == 0].any(axis=1)
    if not usable.any():
        return False
    atomic = evidence.atomic - evidence.counts @ free
    ratio = np.median(atomic[usable] / (counts @ table)[usable])
    return bool(ALL_ELECTRON[0] < ratio < ALL_ELECTRON[1])
