"""Fit labels to the foundation model's own predictions: slope, correlation, offset.

No torch: labels and predictions come as arrays.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from lora.catalogue.findings import Label, Per
from lora.data.audit_labels import label_of
from lora.data.e0s import fit_e0s
from lora.data.labels import weight_of
from lora.data.structures import composition, elements_of

LEAST = 6  # independent numbers that a slope is drawn from


@dataclass(frozen=True)
class Fit:
    """How labels go with predictions.

    Attributes:
        slope: The ratio of their RMS sizes, with the sign of the correlation.
        correlation: Pearson's.
        offset: The mean of label minus prediction (eV/atom, eV/Å, eV/Å^3); of the energy before
            it was re-referenced.
        n: The independent numbers behind it.
        size: The RMS of the labels as compared.
        predicted: The RMS of the predictions as compared.
    """

    slope: float = 0.0
    correlation: float = 0.0
    offset: float = 0.0
    n: int = 0
    size: float = 0.0
    predicted: float = 0.0

    @property
    def least(self) -> float:
        """Return the size of the correlation that is certain, by Fisher's z at two sigma.

        tanh(arctanh |r| - 2 / sqrt(n - 3)), 0 for fewer than `LEAST` numbers (Fisher, Metron 1,
        3 (1921)).
        """
        if self.n < LEAST:
            return 0.0
        size = min(abs(self.correlation), 1 - 1e-12)
        return max(0.0, math.tanh(math.atanh(size) - 2 / math.sqrt(self.n - 3)))


def fit(labels: np.ndarray, predicted: np.ndarray, n: int, offset: float = 0.0) -> Fit:
    """Fit labels to predictions, both around zero, without taking either for exact.

    The slope is the reduced major axis, sign(r) rms(labels) / rms(predicted) (Smith, Am. J. Phys.
    Anthropol. 140, 476 (2009)): that of labels on predictions times that of predictions on labels
    is 1, so that noise of either bends it alike, where least squares would shrink it by r.

    Args:
        labels: Labels, of any shape, without their mean.
        predicted: Predictions of the same shape, without theirs.
        n: The independent numbers among them.
        offset: What to note as the offset.
    """
    if labels.size == 0:
        return Fit(offset=offset)
    size, other = (float(np.sqrt(np.mean(np.square(x)))) for x in (labels, predicted))
    if size == 0 or other == 0 or not math.isfinite(size * other):
        return Fit(0.0, 0.0, offset, n, size, other)
    correlation = float(np.mean(labels * predicted)) / (size * other)
    slope = math.copysign(size / other, correlation)
    return Fit(slope, correlation, offset, n, size, other)


@dataclass(frozen=True)
class Compared:
    """Structures of a file beside what the foundation model predicts for them.

    Attributes:
        structures: Labelled structures, without free atoms.
        energy: The predicted energies (eV), [n].
        forces: The predicted forces (eV/Å), [n_atoms, 3] each.
        stress: The predicted stresses (eV/Å^3), [9] each; None where there is none to compare.
    """

    structures: Sequence[Atoms]
    energy: np.ndarray
    forces: list[np.ndarray]
    stress: list[np.ndarray | None]

    def __len__(self) -> int:
        return len(self.structures)

    def only(self, chosen: Iterable[int]) -> "Compared":
        """Return some of the structures.

        Args:
            chosen: Their numbers.
        """
        kept = list(chosen)
        return Compared(
            [self.structures[i] for i in kept],
            self.energy[kept],
            [self.forces[i] for i in kept],
            [self.stress[i] for i in kept],
        )

    def having(self, quantity: Label) -> "Compared":
        """Return the structures that have a label which counts, and a prediction for it.

        Args:
            quantity: energy, forces or stress.
        """
        return self.only(
            i
            for i, atoms in enumerate(self.structures)
            if label_of(atoms, quantity) is not None
            and (quantity != "stress" or self.stress[i] is not None)
        )


def referenced(
    structures: Sequence[Atoms], values: np.ndarray, kept: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Take energies of free atoms out of energies, by weighted least squares over element counts.

    Of y = E / n_atoms and x = counts / n_atoms, y - x b is returned with b that minimises the sum
    of w (y - x b)^2, w = config_weight x config_energy_weight.

    Args:
        structures: The structures.
        values: A value for each, as its energy (eV), [n].
        kept: True for those that b is fitted to, [n]; None for all.

    Returns:
        What is left of each (eV/atom), [n], and the rank of the counts.
    """
    counts = composition(structures, elements_of(structures))
    n_atoms = counts.sum(axis=1)
    weights = np.array([weight_of(atoms, "energy") for atoms in structures])
    weights = weights if kept is None else weights * kept
    rows, goal = counts / n_atoms[:, None], values / n_atoms
    b, rank = fit_e0s(rows, goal, weights)
    return goal - rows @ b, rank


def fit_energy(compared: Compared, per: Per = "") -> Fit:
    """Fit re-referenced energies (eV/atom) to the predicted ones.

    Args:
        compared: Structures with energies.
        per: "atom" takes labels for energies per atom.
    """
    if not len(compared):
        return Fit()
    n_atoms = np.array([len(atoms) for atoms in compared.structures])
    labels = np.array([float(atoms_energy(x)) for x in compared.structures])
    labels = labels * n_atoms if per == "atom" else labels
    offset = float(np.mean((labels - compared.energy) / n_atoms))
    left, rank = referenced(compared.structures, labels)
    predicted, _ = referenced(compared.structures, compared.energy)
    weights = np.sqrt([weight_of(atoms, "energy") for atoms in compared.structures])
    return fit(weights * left, weights * predicted, len(compared) - rank, offset)


def atoms_energy(atoms: Atoms) -> float:
    """Return the energy label (eV) of a structure that has one.

    Args:
        atoms: The structure.
    """
    found = label_of(atoms, "energy")
    assert found is not None
    return float(found)


def fit_forces(compared: Compared) -> Fit:
    """Fit forces to the predicted ones; n leaves six numbers a structure to rigid motion.

    Args:
        compared: Structures with forces.
    """
    if not len(compared):
        return Fit()
    labels = np.concatenate([label_of(atoms, "forces") for atoms in compared.structures])
    predicted = np.concatenate(compared.forces)
    n = sum(max(0, 3 * len(atoms) - 6) for atoms in compared.structures)
    return fit(labels, predicted, n, float(np.mean(labels - predicted)))


def fit_stress(compared: Compared, per: Per = "") -> Fit:
    """Fit stresses to the predicted ones, both without the mean of each component.

    A theory with another lattice constant has another pressure on all cells, which is the offset.

    Args:
        compared: Structures with stress labels and predictions.
        per: "volume" takes labels for stress times volume.
    """
    if not len(compared):
        return Fit()
    labels = np.array([label_of(atoms, "stress") for atoms in compared.structures]).reshape(-1, 9)
    if per == "volume":
        labels = labels / np.array([[abs(x.cell.volume)] for x in compared.structures])
    predicted = np.array(compared.stress, dtype=float)
    offset = float(np.mean((labels - predicted)[:, [0, 4, 8]]))
    n = 3 * (len(compared) - 1)
    return fit(labels - labels.mean(axis=0), predicted - predicted.mean(axis=0), n, offset)


def fit_of(quantity: Label, compared: Compared, per: Per = "") -> Fit:
    """Fit the labels of a kind to the predictions.

    Args:
        quantity: energy, forces or stress.
        compared: The structures.
        per: What the labels may have been divided by or multiplied by.
    """
    having = compared.having(quantity)
    if quantity == "energy":
        return fit_energy(having, per)
    return fit_forces(having) if quantity == "forces" else fit_stress(having, per)
