"""Compare labels with the foundation model's own predictions, and name what is wrong with them.

No torch: labels and predictions come as arrays.  A wrong unit or sign shows as a slope: right
labels have one near 1, whatever the level of theory, and those in kcal/mol one near 23.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from lora.catalogue.findings import BY_NAME, Finding, Label, Level, Per, units_of
from lora.data.audit_labels import label_of, weight_of
from lora.data.structures import composition, elements_of
from lora.plan.config_data import Audit

# RMS of predictions below which labels of that size are too small to be compared
FLOORS: dict[Label, float] = {"energy": 1e-3, "forces": 0.01, "stress": 1e-4}
UNITS: dict[Label, str] = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"}
LEAST = 6  # independent numbers that a slope is drawn from
RIGHT = 2.0  # slopes between its inverse and it may be those of another theory
FACTOR = 1.5  # around the factor of a unit in which a slope is taken for it, at most
NEAR = 8  # and at most the NEAR-th root of the factor: a unit near 1 has to be hit closely
SHARP = 0.9  # correlation from which on a unit within a factor `ODD` of 1 is sure
ODD = 3.0  # a ratio of sizes beyond which low correlation says something all the same
SHOWN = 6  # frames that a line names


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
    if size == 0 or other == 0:
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

    structures: list[Atoms]
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
        lists = ([x[i] for i in kept] for x in (self.structures, self.forces, self.stress))
        structures, forces, stress = lists
        return Compared(structures, self.energy[kept], forces, stress)

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


def referenced(structures: list[Atoms], values: np.ndarray) -> tuple[np.ndarray, int]:
    """Take energies of free atoms out of energies, by weighted least squares over element counts.

    Of y = E / n_atoms and x = counts / n_atoms, y - x b is returned with b that minimises the sum
    of w (y - x b)^2, w = config_weight x config_energy_weight.

    Args:
        structures: The structures.
        values: A value for each, as its energy (eV), [n].

    Returns:
        What is left of each (eV/atom), [n], and the rank of the counts.
    """
    counts = composition(structures, elements_of(structures))
    n_atoms = counts.sum(axis=1)
    scale = np.sqrt([weight_of(atoms, "energy") for atoms in structures])
    rows, goal = counts / n_atoms[:, None], values / n_atoms
    b, _, rank, _ = np.linalg.lstsq(rows * scale[:, None], goal * scale, rcond=None)
    return goal - rows @ b, int(rank)


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


# --- findings


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        name: Of its row in the catalogue.
        where: The file, or file and frames.
        evidence: What was measured, in words.
        sure: Whether a finding that can refuse does.
        values: The numbers behind it.
    """

    name: str
    where: str
    evidence: str
    sure: bool = True
    values: dict[str, float] = field(default_factory=dict)

    @property
    def row(self) -> Finding:
        """Return the row of the catalogue."""
        return BY_NAME[self.name]

    @property
    def level(self) -> Level:
        """Return what it does: refuse, warn or note."""
        return self.row.level if self.sure or self.row.level != "refuse" else "warn"

    def text(self) -> str:
        """Return the finding as one line."""
        row = self.row
        about = "" if row.label in ("frames", "labels") else f"{row.label}: "
        maybe = "" if row.factor is None else "most likely " if self.sure else "perhaps "
        said = f"{maybe}{row.meaning}" + (f"; {row.remedy}" if row.remedy else "")
        line = f"{self.where}: {about}{self.evidence}; {said}"
        if not row.acceptable or row.level == "note":
            return line
        return f"{line}, or go on as it is with audit: {{accept: [{self.name}]}}"


def in_words(found: Fit) -> str:
    """Return slope and correlation in words.

    Args:
        found: The fit.
    """
    return (
        f"{found.slope:.3g} times what the foundation model predicts (correlation "
        f"{found.correlation:.2f})"
    )


def taken(slope: float, row: Finding, typical: float = 1.0) -> float:
    """Return how far a slope is from a row's factor; below 0 it is taken for it.

    Args:
        slope: The slope with the row's transformation undone, so that the factor is all.
        row: The row.
        typical: What the transformation does to the size of a typical label.
    """
    assert row.factor is not None
    away = abs(math.log(abs(row.factor) * typical))
    return abs(math.log(abs(slope / row.factor))) - min(math.log(FACTOR), away / NEAR)


def units(quantity: Label, compared: Compared) -> list[tuple[Finding, Fit]]:
    """Return the wrong units that the labels may have, the likeliest first; no signs.

    Args:
        quantity: energy, forces or stress.
        compared: The structures, all of which count.
    """
    having = compared.having(quantity)
    plain = fit_of(quantity, having)
    sizes = {"": 1.0}
    if len(having):
        sizes["atom"] = 1 / float(np.median([len(x) for x in having.structures]))
        volumes = [abs(x.cell.volume) for x in having.structures]
        sizes["volume"] = max(float(np.median(volumes)), 1e-6)
    found = []
    for row in units_of(quantity):
        own = fit_of(quantity, having, row.per) if row.per else plain
        if own.slope and (miss := taken(own.slope, row, sizes[row.per])) < 0:
            worse = abs(plain.correlation) - abs(own.correlation)
            if worse < 0.05:
                found.append((miss + worse, row, own))
    return [(row, own) for _, row, own in sorted(found, key=lambda x: x[0])]


def scale_findings(
    quantity: Label, where: str, compared: Compared, settings: Audit
) -> tuple[Fit, list[Found]]:
    """Return how the labels of a kind go with the predictions, and what is wrong with them.

    Args:
        quantity: energy, forces or stress.
        where: The file.
        compared: The structures.
        settings: The thresholds.
    """
    own = fit_of(quantity, compared)
    frames = len(compared.having(quantity))
    if not frames:
        return own, []
    small = own.predicted < FLOORS[quantity] and own.size < FLOORS[quantity]
    if own.n < LEAST or small:
        evidence = f"{quantity} of {frames} structures, {own.size:.1g} {UNITS[quantity]} in size"
        return own, [Found("nothing_to_compare", where, evidence)]
    sure = own.least >= settings.correlation
    said = f"{in_words(own)} in {frames} structures"
    values = {"slope": own.slope, "correlation": own.correlation}
    found = []
    ratio = abs(own.slope)
    doubtful = own.least > 0 and max(ratio, 1 / ratio) > ODD
    matches = units(quantity, compared) if sure or doubtful else []
    if matches:
        others = [other.meaning for other, _ in matches[1:3]]
        also = f" (or {' or '.join(others)})" if others else ""
        sharp = max(ratio, 1 / ratio) > ODD or own.least >= SHARP
        found.append(Found(matches[0][0].name, where, said + also, sure and sharp, values))
    if sure and own.slope < 0 and "stress_virial" not in [x.name for x in found]:
        found.append(Found(f"{quantity}_sign", where, said, True, values))
    if not sure and not found:
        found.append(Found(f"{quantity}_unexplained", where, said, values=values))
    elif not matches and not 1 / RIGHT < ratio < RIGHT:
        found.append(Found(f"{quantity}_scale", where, said, values=values))
    return own, found


def named(frames: list[str]) -> str:
    """Return the frames of a file in words, "dft.xyz frames 3, 7 and 2 more".

    Args:
        frames: Each as "dft.xyz frame 3".
    """
    by_file: dict[str, list[str]] = {}
    for one in frames:
        file, _, number = one.rpartition(" frame ")
        by_file.setdefault(file, []).append(number)
    parts = []
    for file, numbers in by_file.items():
        more = len(numbers) - SHOWN
        shown = ", ".join(numbers[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        parts.append(f"{file} frame{'s' if len(numbers) > 1 else ''} {shown}")
    return "; ".join(parts)
