"""Find frames far outside the rest of their file, and equal geometries with other labels.

By labels and cells alone, on every frame.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from ase import Atoms

from lora.data.audit import Found, named
from lora.data.audit_fit import atoms_energy, referenced
from lora.data.audit_labels import label_of
from lora.data.held import some
from lora.data.labels import CHARGE, SPIN
from lora.data.origin import where
from lora.data.statistics import spread
from lora.data.structures import formula_of
from lora.plan.config_data import Audit

TRIALS = 5  # fits of E0s, each without the frames that were far off the one before
CANDIDATES = 50  # frames far outside that the foundation model is asked about, at most
SAME = 1e-4  # Å; positions and cells that differ by less are written alike
LEAST_ENERGY, LEAST_FORCE = 0.1, 0.5  # eV/atom, eV/Å; smaller differences are not far outside
LEAST_VOLUME = 0.5  # of the median volume of the formula


def robust_z(values: np.ndarray, least: float) -> np.ndarray:
    """Return how far values lie from their median, in spreads.

    Args:
        values: The values, [n].
        least: The smallest spread that counts, in the unit of the values.
    """
    if not values.size:
        return np.zeros(0)
    z: np.ndarray = np.abs(values - np.median(values)) / max(spread(values), least)
    return z


def energies_left(structures: Sequence[Atoms], values: np.ndarray, far: float) -> np.ndarray:
    """Return energies per atom (eV) without those of free atoms, which far frames do not bend.

    Args:
        structures: The structures, [n].
        values: Their energies (eV), [n].
        far: Spreads beyond which a frame is left out of the next fit of free atoms.
    """
    kept = np.ones(len(structures), dtype=bool)
    left = np.zeros(len(structures))
    for _ in range(TRIALS):
        left, _ = referenced(structures, values, kept)
        away = np.abs(left - np.median(left[kept]))
        near = away <= far * max(spread(left[kept]), LEAST_ENERGY / far)
        if near[kept].all():
            break
        kept &= near
    return left


@dataclass(frozen=True)
class Far:
    """A frame far outside the rest of its file by its labels or its cell alone.

    Attributes:
        index: Its number among the structures.
        evidence: What is far outside, in words.
        z: How far, in spreads.
    """

    index: int
    evidence: str
    z: float


def far_outside(structures: Sequence[Atoms], settings: Audit) -> list[Far]:
    """Return the frames far outside the rest, the farthest first, at most `CANDIDATES`.

    Measured are energy per atom without free atoms, largest force, and, of crystals of one
    formula, volume per atom; each against median and MAD of the file.

    Args:
        structures: Labelled structures, without free atoms.
        settings: The thresholds.
    """
    found: dict[int, Far] = {}
    for values, least, unit, name in _measures(structures, settings.outlier):
        known = np.isfinite(values)
        z = np.zeros(len(structures))
        z[known] = robust_z(values[known], least / settings.outlier)
        for i in np.flatnonzero(z > settings.outlier).tolist():
            evidence = f"{name} {values[i]:.3g} {unit}, median {np.median(values[known]):.3g}"
            if i not in found or found[i].z < z[i]:
                found[i] = Far(i, evidence, float(z[i]))
    return sorted(found.values(), key=lambda x: -x.z)[:CANDIDATES]


def _measures(
    structures: Sequence[Atoms], far: float
) -> Iterator[tuple[np.ndarray, float, str, str]]:
    """Yield values of every structure (NaN for none), the least that counts, unit and name."""
    having = [i for i, x in enumerate(structures) if label_of(x, "energy") is not None]
    energies = np.full(len(structures), np.nan)
    if having:
        held = some(structures, having)
        energies[having] = energies_left(held, np.array([atoms_energy(x) for x in held]), far)
    yield energies, LEAST_ENERGY, "eV/atom", "energy without free atoms"
    forces = (label_of(atoms, "forces") for atoms in structures)
    largest = [np.nan if x is None else float(np.linalg.norm(x, axis=1).max()) for x in forces]
    yield np.array(largest), LEAST_FORCE, "eV/Å", "largest force"
    by_formula = defaultdict(list)
    volumes = np.full(len(structures), np.nan)
    for i, atoms in enumerate(structures):
        if atoms.pbc.all():
            by_formula[formula_of(atoms)].append(i)
            volumes[i] = abs(atoms.cell.volume)
    for members in by_formula.values():
        volumes[members] /= np.median(volumes[members])
    yield volumes, LEAST_VOLUME, "times the median of the formula", "volume"


def same_geometry(structures: Sequence[Atoms], settings: Audit) -> list[Found]:
    """Return the frames, of whatever file, that have equal geometries and other labels.

    Charge and spin are a part of the geometry.

    Args:
        structures: All labelled structures, with their origins.
        settings: The thresholds.
    """
    groups = defaultdict(list)
    for i, atoms in enumerate(structures):
        groups[_geometry(atoms)].append(i)
    alike = [members for members in groups.values() if len(members) > 1]
    gaps = [(_gap([structures[i] for i in members]), members) for members in alike]
    wrong = [(gap, members) for gap, members in gaps if gap > settings.same_geometry]
    if not wrong:
        return []
    most, worst = max(wrong, key=lambda x: x[0])

    def frames(members: Iterable[int]) -> str:
        return named([where(structures[i], "data", i) for i in sorted(members)])

    said = f"{frames(worst)} are one geometry, and their labels differ by {most:.3g} meV/atom or "
    said += f"meV/Å, the most of {len(wrong)}"
    return [Found("same_geometry", frames(i for _, x in wrong for i in x), said)]


def _geometry(atoms: Atoms) -> bytes:
    """Return a digest of what two frames of one geometry share, wherever it lies."""
    cell = atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
    numbers = np.concatenate([atoms.positions - atoms.positions[0], cell])
    state = tuple(atoms.info.get(key) for key in (CHARGE, SPIN))
    held = (
        atoms.numbers.tobytes(),
        atoms.pbc.tobytes(),
        np.round(numbers / SAME).astype(np.int64).tobytes(),
        repr(state).encode(),
    )
    return blake2b(b"|".join(held), digest_size=16).digest()


def _gap(structures: Sequence[Atoms]) -> float:
    """Return the largest difference of energies (meV/atom) or forces (meV/Å) of some structures."""
    energies = [float(x) for a in structures if (x := label_of(a, "energy")) is not None]
    forces = [x for a in structures if (x := label_of(a, "forces")) is not None]
    gap = float(np.ptp(energies)) / len(structures[0]) if energies else 0.0
    return 1e3 * max(gap, float(np.ptp(forces, axis=0).max()) if forces else 0.0)
