"""Find equal and nearly equal structures in two sets of a split."""

from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from scipy.spatial import cKDTree

from lora.data.origin import origin_of
from lora.data.structures import SETS

N_IMAGES = 7  # shortest vectors of a lattice, in the fingerprint of a structure
N_QUANTILES = 64  # of the sorted distances, in the fingerprint of a structure


def leakage(sets: dict[str, list[Atoms]], tolerance: float) -> dict[str, Any]:
    """Return the pairs of equal (to 1e-6 Å) or nearly equal structures in two different sets.

    Structures of one composition are compared by their sorted interatomic distances (minimum
    image) and those of an atom to its periodic images, which no rotation, permutation or choice of
    the cell changes.  Different structures can share all
    distances, rarely.

    Args:
        sets: The structures of each of `SETS`.
        tolerance: The largest difference of any of the distances (Å).

    Returns:
        {"tolerance_angstrom", "duplicates", "near_duplicates": counts, "closest": the 20 closest
        pairs, each {"angstrom", "a", "b"}, with set, number in the set, source file and frame}.
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
            examples.append((gap, (set_a, i), (set_b, j)))
    closest = [
        {"angstrom": gap, "a": _named(sets, *a), "b": _named(sets, *b)}
        for gap, a, b in sorted(examples)[:20]
    ]
    return {
        "tolerance_angstrom": tolerance,
        "duplicates": exact,
        "near_duplicates": near,
        "closest": closest,
    }


def _named(sets: dict[str, list[Atoms]], name: str, i: int) -> dict[str, Any]:
    """Return where a structure stands: set, number in it, source file and frame."""
    origin = origin_of(sets[name][i])
    source = {"source_file": origin.file, "frame": origin.frame} if origin else {}
    return {"set": name, "structure": i} | source


def _distances(atoms: Atoms) -> np.ndarray:
    """Return sorted distances (Å) at fixed quantiles, and those of an atom to its images."""
    n = len(atoms)
    if n == 1:
        distances = np.zeros(1)
    else:
        periodic = bool(atoms.pbc.any())
        pairs = atoms.get_all_distances(mic=periodic)  # type: ignore[no-untyped-call]  # ASE's
        distances = np.sort(pairs[np.triu_indices(n, 1)])
    at = np.linspace(0, len(distances) - 1, N_QUANTILES).round().astype(int)
    return np.concatenate([distances[at], _images(atoms)])


def _images(atoms: Atoms) -> np.ndarray:
    """Return distances of an atom to its periodic images (Å) that no choice of the cell changes.

    They are the lengths of the Minkowski-reduced cell, the shortest of all vectors of the lattice,
    and the root of the length, area or volume that repeats.
    """
    reduced = minkowski_reduce(atoms.cell, atoms.pbc)[0]  # type: ignore[no-untyped-call]  # ASE's
    vectors = np.asarray(reduced)[atoms.pbc]
    n = len(vectors)
    if n == 0:
        return np.empty(0)
    steps = np.array([x for x in product(range(-2, 3), repeat=n) if x > (0,) * n])
    shortest = np.sort(np.linalg.norm(steps @ vectors, axis=1))[:N_IMAGES]
    size = np.sqrt(np.linalg.det(vectors @ vectors.T)) ** (1 / n)
    return np.concatenate([np.sort(np.linalg.norm(vectors, axis=1)), shortest, [size]])
