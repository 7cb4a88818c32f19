"""Find equal and nearly equal structures in two sets of a split."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from lora.data.fingerprint import fingerprint
from lora.data.held import HELD, naming_disk
from lora.data.origin import origin_of
from lora.data.structures import SETS

EQUAL = 1e-6  # Å; the largest difference of equal structures
CLOSEST = 20  # pairs that are named
AXES = 10  # distances that a search tree knows; with more it is no faster than no tree
MANY = 3_000_000  # pairs of two sets that are looked at; of more, every k-th structure is
CHUNK = 50_000  # of them at a time

Pair = tuple[float, tuple[str, int], tuple[str, int]]  # difference (Å), set and number of each


@dataclass
class Found:
    """The pairs of two sets that are alike.

    Attributes:
        exact: How many are equal.
        within: How many are within the tolerance, the equal ones included.
        every: 1 where all were looked at, k where every k-th structure was: counts are estimates.
        closest: The closest: difference (Å), number in the first set, number in the second.
    """

    exact: int = 0
    within: int = 0
    every: int = 1
    closest: list[tuple[float, int, int]] = field(default_factory=list)


def leakage(sets: Mapping[str, Sequence[Atoms]], tolerance: float) -> dict[str, Any]:
    """Return the pairs of equal (to 1e-6 Å) or nearly equal structures in two different sets.

    Structures of one composition are compared by their fingerprints (`lora.data.fingerprint`).
    Different structures can share all distances, rarely.  Pairs are counted, not listed: of n
    structures that are alike there are n^2 / 2.

    Args:
        sets: The structures of each of `SETS`.
        tolerance: The largest difference of any of the distances (Å).

    Returns:
        {"tolerance_angstrom", "duplicates", "near_duplicates": counts, "counted_every": 1, or k
        where counts are estimates from every k-th structure, "closest": the 20 closest pairs, each
        {"angstrom", "a", "b"}, with set, number in the set, source file and frame}.
    """
    reach = max(tolerance, EQUAL)
    total = Found()
    examples: list[Pair] = []
    for members in _by_composition(sets):
        vectors = {
            x: _table((fingerprint(sets[x][i]) for i in own), len(own))
            for x, own in members.items()
        }
        for a, b in combinations(members, 2):
            found = _compare(vectors[a], vectors[b], reach)
            total.exact, total.within = total.exact + found.exact, total.within + found.within
            total.every = max(total.every, found.every)
            for gap, i, j in found.closest:
                examples.append((gap, (a, members[a][i]), (b, members[b][j])))
            examples = sorted(examples)[:CLOSEST]
    closest = [
        {"angstrom": x, "a": _named(sets, *a), "b": _named(sets, *b)} for x, a, b in examples
    ]
    return {
        "tolerance_angstrom": tolerance,
        "duplicates": total.exact,
        "near_duplicates": total.within - total.exact,
        "counted_every": total.every,
        "closest": closest,
    }


def _by_composition(sets: Mapping[str, Sequence[Atoms]]) -> list[dict[str, list[int]]]:
    """Return the numbers of the structures in each set that can be alike, where two sets have some.

    They have the same elements, as many of each, and the same periodic directions.
    """
    found: dict[tuple[bytes, bytes], dict[str, list[int]]] = defaultdict(dict)
    for name in SETS:
        for i, atoms in enumerate(sets[name]):
            key = np.sort(atoms.numbers).tobytes(), atoms.pbc.tobytes()
            found[key].setdefault(name, []).append(i)
    return [members for members in found.values() if len(members) > 1]


def _table(rows: Iterator[np.ndarray], n: int) -> np.ndarray:
    """Return n rows as an array, of many in a file that ends with it."""
    first = next(rows)
    shape = n, len(first)
    table: np.ndarray = np.empty(shape)
    if n > HELD:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        with naming_disk():  # the room is taken now: later a full disk would end the process
            os.posix_fallocate(file.fileno(), 0, table.nbytes)
        table = np.memmap(file, float, "r+", shape=shape)
    table[0] = first
    for i, row in enumerate(rows, start=1):
        table[i] = row
    return table


def _compare(first: np.ndarray, second: np.ndarray, reach: float) -> Found:
    """Return the pairs of two sets of fingerprints that are within reach.

    Args:
        first: Those of one set, [n, n_distances] (Å).
        second: Those of the other, [m, n_distances] (Å).
        reach: The largest difference of any of the distances (Å).
    """
    axes = np.argsort(first.std(axis=0))[-AXES:]  # those that tell structures apart best
    tree, asked = cKDTree(first[:, axes]), second[:, axes]
    rough = np.asarray(tree.query_ball_point(asked, reach, p=np.inf, return_length=True))
    every = max(1, -(-int(rough.sum()) // MANY))
    found, looked = Found(every=every), np.flatnonzero(rough)[::every]
    parts = np.flatnonzero(np.diff(np.cumsum(rough[looked]) // CHUNK)) + 1
    for own in np.split(looked, parts) if len(looked) else ():
        i = np.concatenate(tree.query_ball_point(asked[own], reach, p=np.inf)).astype(int)
        j = np.repeat(own, rough[own])
        gaps = np.abs(first[i] - second[j]).max(axis=1)
        found.exact += every * int((gaps <= EQUAL).sum())
        near = np.flatnonzero(gaps <= reach)
        found.within += every * len(near)
        best = near[np.lexsort((j[near], i[near], gaps[near]))[:CLOSEST]]
        pairs = zip(gaps[best].tolist(), i[best].tolist(), j[best].tolist(), strict=True)
        found.closest = sorted([*found.closest, *pairs])[:CLOSEST]
    return found


def _named(sets: Mapping[str, Sequence[Atoms]], name: str, i: int) -> dict[str, Any]:
    """Return where a structure stands: set, number in it, source file and frame."""
    origin = origin_of(sets[name][i])
    source = {"source_file": origin.file, "frame": origin.frame} if origin else {}
    return {"set": name, "structure": i} | source
