"""Find equal and nearly equal structures in two sets of a split."""

from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from lora.data.fingerprint import fingerprint
from lora.data.origin import origin_of
from lora.data.structures import SETS

EQUAL = 1e-6  # Å; the largest difference of equal structures
CLOSEST = 20  # pairs that are named
MANY = 100_000  # pairs of two sets that are looked at one by one
LOOKED_AT = 2000  # structures of which the closest are looked for where there are more pairs

Pair = tuple[float, tuple[str, int], tuple[str, int]]  # difference (Å), set and number of each


def leakage(sets: dict[str, list[Atoms]], tolerance: float) -> dict[str, Any]:
    """Return the pairs of equal (to 1e-6 Å) or nearly equal structures in two different sets.

    Structures of one composition are compared by their fingerprints (`lora.data.fingerprint`).
    Different structures can share all distances, rarely.  Pairs are counted, not listed: of n
    structures that are alike there are n^2 / 2.

    Args:
        sets: The structures of each of `SETS`.
        tolerance: The largest difference of any of the distances (Å).

    Returns:
        {"tolerance_angstrom", "duplicates", "near_duplicates": counts, "closest": the 20 closest
        pairs, each {"angstrom", "a", "b"}, with set, number in the set, source file and frame}.
    """
    reach = max(tolerance, EQUAL)
    exact, within = 0, 0
    examples: list[Pair] = []
    for members in _by_composition(sets):
        vectors = {
            x: np.array([fingerprint(sets[x][i]) for i in own]) for x, own in members.items()
        }
        trees = {x: cKDTree(own) for x, own in vectors.items()}
        for a, b in combinations(members, 2):
            equal, near = trees[a].count_neighbors(trees[b], [EQUAL, reach], p=np.inf).tolist()
            exact, within = exact + equal, within + near
            for gap, i, j in _closest(trees[a], trees[b], reach) if near else ():
                examples.append((gap, (a, members[a][i]), (b, members[b][j])))
            examples = sorted(examples)[:CLOSEST]
    closest = [
        {"angstrom": x, "a": _named(sets, *a), "b": _named(sets, *b)} for x, a, b in examples
    ]
    return {
        "tolerance_angstrom": tolerance,
        "duplicates": exact,
        "near_duplicates": within - exact,
        "closest": closest,
    }


def _by_composition(sets: dict[str, list[Atoms]]) -> list[dict[str, list[int]]]:
    """Return the numbers of the structures in each set that can be alike, where two sets have some.

    They have the same elements, as many of each, and the same periodic directions.
    """
    found: dict[tuple[bytes, bytes], dict[str, list[int]]] = defaultdict(dict)
    for name in SETS:
        for i, atoms in enumerate(sets[name]):
            key = np.sort(atoms.numbers).tobytes(), atoms.pbc.tobytes()
            found[key].setdefault(name, []).append(i)
    return [members for members in found.values() if len(members) > 1]


def _closest(a: cKDTree, b: cKDTree, reach: float) -> list[tuple[float, int, int]]:
    """Return the closest pairs of points of two trees, with their difference (Å).

    Of more than `MANY` pairs, those of the first `LOOKED_AT` points are looked at.
    """
    if a.count_neighbors(b, reach, p=np.inf) <= MANY:
        found = a.sparse_distance_matrix(b, reach, p=np.inf, output_type="ndarray")
        gaps, i, j = found["v"], found["i"], found["j"]
    else:
        most, k = np.nextafter(reach, np.inf), min(CLOSEST, b.n)
        gaps, j = b.query(a.data[:LOOKED_AT], k, p=np.inf, distance_upper_bound=most)
        i = np.repeat(np.arange(len(gaps)), k)
        gaps, j = gaps.ravel(), j.ravel()
        i, gaps, j = (x[np.isfinite(gaps)] for x in (i, gaps, j))
    order = np.lexsort((j, i, gaps))[:CLOSEST]
    return [(float(gaps[x]), int(i[x]), int(j[x])) for x in order]


def _named(sets: dict[str, list[Atoms]], name: str, i: int) -> dict[str, Any]:
    """Return where a structure stands: set, number in it, source file and frame."""
    origin = origin_of(sets[name][i])
    source = {"source_file": origin.file, "frame": origin.frame} if origin else {}
    return {"set": name, "structure": i} | source
