"""Step `split`: a labelled dataset into training, validation and test sets, with a leakage check.

    data/{train,valid,test}.xyz, split.json

A split moves groups, never parts of one: every structure is a group of its own (`random`), or
structures with the same key are one (`group`), or a contiguous stretch of the file is
(`blocked`, for frames of a trajectory, where neighbours are nearly equal).
"""

import logging
from functools import partial
from pathlib import Path

from lora.data.grouping import SplitSettings, allocate, groups_of
from lora.data.leakage import leakage
from lora.data.structures import SETS, is_isolated_atom, read_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import write_sealed

log = logging.getLogger(__name__)


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
        groups = groups_of([structures[i] for i in todo], settings, dataset)
        assigned = allocate(groups, settings)
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
