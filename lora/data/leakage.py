"""Equal and nearly equal structures in two sets of a split."""

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from lora.data.structures import SETS

N_QUANTILES = 64  # of the sorted distances, in the fingerprint of a structure


def leakage(sets: dict[str, list[Atoms]], tolerance: float) -> dict:
    """Pairs of equal (to 1e-6 Å) or nearly equal structures in two different sets.

    Structures of one composition are compared by their sorted interatomic distances (minimum
    image), which no rotation or permutation changes; `tolerance` (Å) bounds the largest
    difference of any of them.  Different structures can share all distances, rarely.
    """
    by_composition: dict[str, list[tuple[str, int, np.ndarray]]] = {}
    for name in SETS:
        for i, atoms in enumerate(sets[name]):
            key = f"{atoms.symbols.formula.format('hill')} {atoms.pbc.tolist()}"
            by_composition.setdefault(key, []).append((name, i, _distances(atoms)))
    exact, near, examples = 0, 0, []
    for members in by_composition.values():
        tree = cKDTree(np.array([vector for *_, vector in members]))
        for a, b in sorted(tree.query_pairs(max(tolerance, 1e-6), p=np.inf)):
            (set_a, i, va), (set_b, j, vb) = members[a], members[b]
            if set_a == set_b:
                continue
            gap = float(np.abs(va - vb).max())
            exact, near = exact + (gap <= 1e-6), near + (gap > 1e-6)
            examples.append((gap, f"{set_a} {i}", f"{set_b} {j}"))
    return {
        "tolerance_angstrom": tolerance,
        "duplicates": exact,
        "near_duplicates": near,
        "closest": [{"angstrom": g, "a": a, "b": b} for g, a, b in sorted(examples)[:20]],
    }


def _distances(atoms: Atoms) -> np.ndarray:
    """Sorted distances (Å) at fixed quantiles, with the volume's cube root for crystals."""
    n = len(atoms)
    if n == 1:
        distances = np.zeros(1)
    else:
        distances = np.sort(
            atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(n, 1)]
        )
    at = np.linspace(0, len(distances) - 1, N_QUANTILES).round().astype(int)
    size = atoms.cell.volume ** (1 / 3) if atoms.pbc.all() else 0.0
    return np.append(distances[at], size)
