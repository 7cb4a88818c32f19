"""Step `split`: divide a labelled dataset into training, validation and test sets.

    data/{train,valid,test}.xyz, split.json

A split moves groups, never parts of one: every structure is a group of its own (`random`),
structures with the same key are one (`group`), or a contiguous stretch of the file is one
(`blocked`, for frames of a trajectory, where neighbours are nearly equal).
"""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ase import Atoms

from lora.data.free_atoms import free_atoms, is_isolated_atom
from lora.data.grouping import SplitSettings, allocate, groups_of, unknown_types, weigh_types
from lora.data.held import changed, joined, only, some
from lora.data.labels import count_labels, say_labels
from lora.data.leakage import leakage
from lora.data.structures import SETS, read_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt

log = logging.getLogger(__name__)
Sets = dict[str, Sequence[Atoms]]


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
    said: list[str] = []
    structures = read_structures(dataset, settings.keys, said)
    free = free_atoms(structures, dataset)
    sets, assigned = _divide(structures, settings, dataset, said)
    if not sets["train"] or not sets["valid"]:
        empty = "train" if not sets["train"] else "valid"
        raise UserError(
            f"{dataset}: {len(assigned)} structures in {len(set(assigned.values()))} sets leave "
            f"the {empty} set empty; change split.method or the fractions"
        )
    _weigh(sets, free, settings, said)
    leaks = _leaks(sets, settings, said)
    labels = _say_labels(sets, settings, said)
    written = {name: Path(out) / f"{name}.xyz" for name in SETS}
    for name, path in written.items():
        write_structures(path, chain(free if name == "train" else [], sets[name]))
    test_sets = [atoms.info["test_set"] for atoms in sets["test"]]
    summary: dict[str, Any] = {
        "method": settings.method,
        "seed": settings.seed,
        "counts": {name: len(sets[name]) for name in SETS} | {"isolated_atoms": len(free)},
        "test_sets": {name: test_sets.count(name) for name in sorted(set(test_sets))},
        "labels": labels,
        "warnings": said,
        "leakage": leaks,
        "assigned": assigned,
    }
    (receipt or Receipt(Path(out) / "split.json")).write(summary, written.values())
    counts = ", ".join(f"{k} {v}" for k, v in summary["counts"].items())
    log.info("split of %s by %s: %s", dataset, settings.method, counts)
    return summary


def _leaks(sets: Sets, settings: SplitSettings, said: list[str]) -> dict[str, Any]:
    """Return what the leakage check finds; warn of duplicates."""
    leaks = leakage(sets, settings.near_duplicate)
    if leaks["duplicates"] or leaks["near_duplicates"]:
        about = "about " if leaks["counted_every"] > 1 else ""
        _warn(
            f"{about}{leaks['duplicates']} exact and {leaks['near_duplicates']} near duplicates "
            f"(within {settings.near_duplicate:g} Å) lie in two sets, so that the errors of the "
            "later set are too small; split.json names the closest pairs",
            said,
        )
    return leaks


def _bulk(structures: Sequence[Atoms], path: str | Path, said: list[str]) -> Sequence[Atoms]:
    """Return the structures of a further file without its free atoms; say how many it had."""
    found = only(structures, lambda atoms: not is_isolated_atom(atoms))
    if left := len(structures) - len(found):
        _warn(f"{path}: {left} free atoms are left out; E0s take those of data.file alone", said)
    return found


def _warn(line: str, said: list[str]) -> None:
    """Log a warning, and keep it for split.json."""
    log.warning(line)
    said.append(line)


def _say_labels(sets: Sets, settings: SplitSettings, said: list[str]) -> dict[str, dict[str, int]]:
    """Log how many structures of each set have each label; return the numbers."""
    sets = _by_set(sets)
    for name, members in sets.items():
        log.info(say_labels(name, members))
    labels = {name: {"structures": len(x)} | count_labels(x) for name, x in sets.items()}
    for quantity in ("energy", "forces"):
        if not labels["train"][quantity]:
            key = getattr(settings.keys, quantity)
            _warn(f"no training structure has {key} (data.{quantity}_key)", said)
    return labels


def _by_set(sets: Sets) -> Sets:
    """Return the structures of each set, with each further test set by its name."""
    named = {name: members for name, members in sets.items() if name != "test"}
    members: dict[str, list[int]] = {}
    for i, atoms in enumerate(sets["test"]):
        members.setdefault(atoms.info["test_set"], []).append(i)
    return named | {name: some(sets["test"], own) for name, own in members.items()}


def _weigh(sets: Sets, free: Sequence[Atoms], settings: SplitSettings, said: list[str]) -> None:
    """Weigh what is trained and validated on; errors on test sets count every structure once."""
    weights = settings.config_type_weights
    weigh_types(free, weights)
    sets |= {name: weigh_types(sets[name], weights) for name in ("train", "valid")}
    if unknown := unknown_types(chain(free, *sets.values()), weights):
        _warn(f"data.config_type_weights: no structure is {' or '.join(unknown)}", said)


def _named(test_set: str, structures: Sequence[Atoms]) -> Sequence[Atoms]:
    """Return structures that say which test set they are of."""
    return changed(structures, lambda atoms: atoms.info.update(test_set=test_set))


def _divide(
    structures: Sequence[Atoms],
    settings: SplitSettings,
    dataset: str | Path,
    said: list[str],
) -> tuple[Sets, dict[str, str]]:
    """Return the structures of each set, and the set of each frame of the dataset by its number.

    Free atoms are in none of the sets, nor are those of further files, whose sets are added.
    """
    todo = [i for i, atoms in enumerate(structures) if not is_isolated_atom(atoms)]
    if settings.method == "given":
        assigned = ["train"] * len(todo)
    else:
        groups = groups_of(some(structures, todo), settings, dataset)
        assigned = allocate(groups, settings)
    members: dict[str, list[int]] = {name: [] for name in SETS}
    for i, name in zip(todo, assigned, strict=True):
        members[name].append(i)
    sets = {name: some(structures, own) for name, own in members.items()}
    if settings.method == "given":
        for name, path in settings.given.items():
            read = _bulk(read_structures(path, settings.keys, said), path, said)
            sets[name] = _own_test(read, path, said) if name == "test" else read
    tests = [_named("test", sets["test"])]
    for name, path in settings.test_files.items():
        extra = _bulk(read_structures(path, settings.keys, said), path, said)
        tests.append(_named(name, extra))
    sets["test"] = joined(*tests)
    return sets, dict(zip(map(str, todo), assigned, strict=True))


def _own_test(structures: Sequence[Atoms], path: str, said: list[str]) -> Sequence[Atoms]:
    """Return the structures of the test set alone, if a file is test.xyz of another sweep."""
    names = [atoms.info.get("test_set") for atoms in structures]
    others = sorted({str(x) for x in names if x not in (None, "test")})
    if "test" not in names or not others:
        return structures
    own = [i for i, name in enumerate(names) if name in (None, "test")]
    left = len(names) - len(own)
    _warn(
        f"split.test_file: {path} is of a sweep with several test sets; {left} structures of "
        f"{', '.join(others)} are left out: name their files in data.test_sets",
        said,
    )
    return some(structures, own)
