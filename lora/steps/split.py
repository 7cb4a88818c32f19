"""Step `split`: divide a labelled dataset into training, validation and test sets.

    data/{train,valid,test}.xyz, split.json

A split moves groups, never parts of one: every structure is a group of its own (`random`),
structures with the same key are one (`group`), or a contiguous stretch of the file is one
(`blocked`, for frames of a trajectory, where neighbours are nearly equal).
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms

from lora.data.grouping import SplitSettings, allocate, groups_of, weigh_types
from lora.data.leakage import leakage
from lora.data.structures import SETS, is_isolated_atom, read_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt

log = logging.getLogger(__name__)
Sets = dict[str, list[Atoms]]


def split(
    dataset: str | Path,
    settings: SplitSettings,
    out: str | Path,
    receipt: Receipt | None = None,
) -> dict[str, Any]:
    """Split a dataset and write the sets.

    Free atoms (config_type IsolatedAtom) go to train.xyz, where only the E0s use them.  Each
    structure of test.xyz carries `test_set`: "test", or the name of its file.  All carry the file
    and the frame that they come from (`lora.data.origin`).

    Args:
        dataset: Labelled structures.
        settings: How to split.
        out: The folder to write to.
        receipt: The receipt to write in place of split.json in that folder.

    Returns:
        The content of split.json.

    Raises:
        UserError: The settings or the data are wrong.
    """
    settings.check()
    read: Callable[[str | Path], list[Atoms]] = partial(_read, settings=settings)
    structures = read(dataset)
    free = [atoms for atoms in structures if is_isolated_atom(atoms)]
    sets, assigned = _divide(structures, settings, dataset, read)
    if not sets["train"] or not sets["valid"]:
        empty = "train" if not sets["train"] else "valid"
        raise UserError(
            f"{dataset}: {len(assigned)} structures in {len(set(assigned.values()))} sets leave "
            f"the {empty} set empty; change split.method or the fractions"
        )
    leaks = leakage(sets, settings.near_duplicate)
    if leaks["duplicates"] or leaks["near_duplicates"]:
        log.warning(
            "%d exact and %d near duplicates (within %g Å) lie in two sets, so that the errors of "
            "the later set are too small; split.json names the closest pairs",
            *(leaks["duplicates"], leaks["near_duplicates"], settings.near_duplicate),
        )

    written = {name: Path(out) / f"{name}.xyz" for name in SETS}
    for name, path in written.items():
        write_structures(path, (free if name == "train" else []) + sets[name])
    test_sets = [atoms.info["test_set"] for atoms in sets["test"]]
    summary: dict[str, Any] = {
        "method": settings.method,
        "seed": settings.seed,
        "counts": {name: len(sets[name]) for name in SETS} | {"isolated_atoms": len(free)},
        "test_sets": {name: test_sets.count(name) for name in sorted(set(test_sets))},
        "leakage": leaks,
        "assigned": assigned,
    }
    (receipt or Receipt(Path(out) / "split.json")).write(summary, written.values())
    counts = ", ".join(f"{k} {v}" for k, v in summary["counts"].items())
    log.info("split of %s by %s: %s", dataset, settings.method, counts)
    return summary


def _read(path: str | Path, settings: SplitSettings) -> list[Atoms]:
    """Return the structures of a file with their labels and weights."""
    keys = {k: getattr(settings, k) for k in ("energy_key", "forces_key", "stress_key")}
    structures = read_structures(path, **keys)
    if left := weigh_types(structures, settings.config_type_weights):
        log.warning("data.config_type_weights: %s has no %s", path, ", ".join(left))
    return structures


def _divide(
    structures: list[Atoms],
    settings: SplitSettings,
    dataset: str | Path,
    read: Callable[[str | Path], list[Atoms]],
) -> tuple[Sets, dict[str, str]]:
    """Return the structures of each set, and the set of each frame of the dataset by its number.

    Free atoms are in none of the sets; files of further sets are added.
    """
    todo = [i for i, atoms in enumerate(structures) if not is_isolated_atom(atoms)]
    sets: Sets = {name: [] for name in SETS}
    if settings.method == "given":
        assigned = ["train"] * len(todo)
    else:
        groups = groups_of([structures[i] for i in todo], settings, dataset)
        assigned = allocate(groups, settings)
    for i, name in zip(todo, assigned, strict=True):
        sets[name].append(structures[i])
    if settings.method == "given":
        sets |= {name: read(path) for name, path in settings.given.items()}
    for atoms in sets["test"]:
        atoms.info["test_set"] = "test"
    for name, path in settings.test_files.items():
        extra = read(path)
        for atoms in extra:
            atoms.info["test_set"] = name
        sets["test"] += extra
    return sets, dict(zip(map(str, todo), assigned, strict=True))
