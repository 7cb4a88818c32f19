"""Step `split`: a labelled dataset into training, validation and test sets, with a leakage check.

    data/{train,valid,test}.xyz, split.json

A split moves groups, never parts of one: every structure is a group of its own (`random`), or
structures with the same key are one (`group`), or a contiguous stretch of the file is
(`blocked`, for frames of a trajectory, where neighbours are nearly equal).
"""

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from lora.config import UserError
from lora.files import write_sealed
from lora.structures import is_isolated_atom, read_structures, write_structures

log = logging.getLogger(__name__)

SETS = ("train", "valid", "test")
SPLITS = ("random", "group", "blocked", "given")
N_QUANTILES = 64  # of the sorted distances, in the fingerprint of a structure


@dataclass(frozen=True)
class SplitSettings:
    """How to split; the fields are the keys of `data` and `split` in the config."""

    method: str = "random"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    group_key: str | None = None  # of atoms.info, for `group`
    block_size: int = 20  # frames of a stretch, for `blocked`
    near_duplicate: float = 0.01  # Å, largest difference of sorted distances
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"
    given: dict[str, str] = field(default_factory=dict)  # valid and test files, for `given`
    test_files: dict[str, str] = field(default_factory=dict)  # further test sets by name

    def check(self) -> None:
        """Raises UserError for values out of bounds, named as in the config."""
        if self.method not in SPLITS:
            raise UserError(f"split.method: {self.method!r} is not one of {', '.join(SPLITS)}")
        for name in ("valid_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"split.{name}: {getattr(self, name)} must lie in [0, 1)")
        if self.valid_fraction + self.test_fraction >= 1:
            total = self.valid_fraction + self.test_fraction
            raise UserError(
                f"split.valid_fraction + split.test_fraction: {total:g} leaves nothing to train on"
            )
        if self.method == "group" and not self.group_key:
            raise UserError("split.group_key: the method `group` needs the key that names a group")
        if self.method == "given" and "valid" not in self.given:
            raise UserError("split.valid_file: the method `given` needs it")


def split(dataset: str | Path, settings: SplitSettings, out: str | Path) -> dict:
    """Split `dataset` and write the sets and split.json to the folder `out`.

    Free atoms (config_type IsolatedAtom) go to train.xyz, where only the E0s use them.
    Each structure of test.xyz carries `test_set`: "test", or the name of its file.

    Returns the contents of split.json.  Raises UserError: bad settings or data.
    """
    settings.check()
    keys = {k: getattr(settings, k) for k in ("energy_key", "forces_key", "stress_key")}
    read = partial(read_structures, **keys)
    structures = read(dataset)
    free = [atoms for atoms in structures if is_isolated_atom(atoms)]
    todo = [i for i, atoms in enumerate(structures) if not is_isolated_atom(atoms)]
    if settings.method == "given":
        sets = {"train": [structures[i] for i in todo], "valid": [], "test": []}
        sets |= {name: read(path) for name, path in settings.given.items()}
        where = dict.fromkeys(map(str, todo), "train")
    else:
        groups = _groups([structures[i] for i in todo], settings, dataset)
        assigned = _allocate(groups, settings)
        sets = {name: [] for name in SETS}
        for i, name in zip(todo, assigned, strict=True):
            sets[name].append(structures[i])
        where = dict(zip(map(str, todo), assigned, strict=True))
    for atoms in sets["test"]:
        atoms.info["test_set"] = "test"
    for name, path in settings.test_files.items():
        extra = read(path)
        for atoms in extra:
            atoms.info["test_set"] = name
        sets["test"] += extra
    if not sets["train"] or not sets["valid"]:
        empty = "train" if not sets["train"] else "valid"
        raise UserError(
            f"{dataset}: {len(todo)} structures in {len(set(where.values()))} sets leave the "
            f"{empty} set empty; change split.method or the fractions"
        )
    leaks = leakage(sets, settings.near_duplicate)
    if leaks["duplicates"] or leaks["near_duplicates"]:
        log.warning(
            "%d exact and %d near duplicates (within %g Å) lie in two sets: errors of the later "
            "set look better than they are; see split.json",
            *(leaks["duplicates"], leaks["near_duplicates"], settings.near_duplicate),
        )

    out = Path(out)
    written = {name: out / f"{name}.xyz" for name in SETS}
    write_structures(written["train"], free + sets["train"])
    write_structures(written["valid"], sets["valid"])
    write_structures(written["test"], sets["test"])
    test_sets = [atoms.info["test_set"] for atoms in sets["test"]]
    summary = {
        "method": settings.method,
        "seed": settings.seed,
        "counts": {name: len(sets[name]) for name in SETS} | {"isolated_atoms": len(free)},
        "test_sets": {name: test_sets.count(name) for name in sorted(set(test_sets))},
        "leakage": leaks,
        "assigned": where,
    }
    write_sealed(out / "split.json", summary, written.values())
    counts = ", ".join(f"{k} {v}" for k, v in summary["counts"].items())
    log.info("split of %s by %s: %s", dataset, settings.method, counts)
    return summary


def _groups(structures: list[Atoms], settings: SplitSettings, dataset: str | Path) -> list[object]:
    """The group of each structure."""
    if settings.method == "blocked":
        return [i // settings.block_size for i in range(len(structures))]
    if settings.method == "random":
        return list(range(len(structures)))
    key = settings.group_key
    for i, atoms in enumerate(structures):
        if key not in atoms.info:
            raise UserError(
                f"{dataset} frame {i}: has no {key}; every structure needs the split.group_key"
            )
    return [atoms.info[key] for atoms in structures]


def _allocate(groups: list[object], settings: SplitSettings) -> list[str]:
    """The set of each structure: shuffled groups fill test, then valid; train takes the rest.

    A set is full at the size nearest to its fraction, but never left empty if asked for.
    """
    names = list(dict.fromkeys(groups))
    np.random.default_rng(settings.seed).shuffle(names)
    size = {name: groups.count(name) for name in names}
    home: dict[object, str] = {}
    for which, fraction in (("test", settings.test_fraction), ("valid", settings.valid_fraction)):
        wanted, have = fraction * len(groups), 0
        for name in names:
            if name in home or wanted == 0:
                continue
            if have and have + size[name] / 2 > wanted:
                break
            home[name], have = which, have + size[name]
    return [home.get(name, "train") for name in groups]


# --- leakage


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
