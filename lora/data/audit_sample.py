"""Choose the frames that the audit makes predictions for."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from ase import Atoms

from lora.catalogue.findings import LABELS
from lora.data.audit_labels import label_of
from lora.data.structures import formula_of
from lora.plan.config_data import Audit


def choose(
    files: Sequence[Sequence[Atoms]], first: Sequence[Collection[int]], settings: Audit
) -> list[list[int]]:
    """Choose frames of every kind: of each file, formula, config_type and set of labels.

    The files take turns, and within a file the kinds, until the frames or the atoms are spent, so
    that small ones are whole before large ones.  Within a kind the order is random.

    Args:
        files: The structures of each file.
        first: The numbers of those in each file that are chosen before any other.
        settings: The largest numbers of frames and atoms, and the seed.

    Returns:
        The numbers of the chosen structures in each file, sorted.
    """
    rng = np.random.default_rng(settings.seed)
    queues = []
    for f, structures in enumerate(files):
        kinds: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
        for i in rng.permutation(len(structures)).tolist():
            if i not in first[f]:
                kinds[_kind(structures[i])].append((f, i))
        members = [x for _, x in sorted(kinds.items(), key=lambda x: str(x[0]))]
        queues.append([(f, i) for i in sorted(first[f])] + _in_turns(members))
    chosen: list[list[int]] = [[] for _ in files]
    frames, left = settings.max_frames, settings.max_atoms
    for f, i in _in_turns(queues):
        size = len(files[f][i])
        if frames and size <= left:
            chosen[f].append(i)
            frames, left = frames - 1, left - size
    return [sorted(numbers) for numbers in chosen]


def _kind(atoms: Atoms) -> tuple[object, ...]:
    """Return what frames of one kind share."""
    labels = {name: label_of(atoms, name) for name in LABELS}
    held = tuple(name for name, x in labels.items() if x is not None and np.any(x))
    return (formula_of(atoms), str(atoms.info.get("config_type", "")), str(atoms.pbc), held)


def _in_turns(kinds: Iterable[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Return the members of some lists, the first of each, then the second of each, ..."""
    ranked = [(rank, k, x) for k, members in enumerate(kinds) for rank, x in enumerate(members)]
    return [x for *_, x in sorted(ranked, key=lambda item: item[:2])]
