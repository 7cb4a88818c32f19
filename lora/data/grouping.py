"""Groups of structures that a split keeps together, and the set of each."""

from pathlib import Path

import numpy as np
from ase import Atoms

from lora.errors import UserError
from lora.plan.settings import SplitSettings


def groups_of(
    structures: list[Atoms], settings: SplitSettings, dataset: str | Path
) -> list[object]:
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


def allocate(groups: list[object], settings: SplitSettings) -> list[str]:
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
