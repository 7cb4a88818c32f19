"""Group the structures that a split keeps together, and choose the set of each group."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from lora.catalogue.config_types import ISOLATED, names_free_atom
from lora.data.held import changed
from lora.data.labels import GIVEN_WEIGHT, WEIGHT, Keys
from lora.data.origin import where
from lora.data.structures import type_of
from lora.errors import UserError
from lora.plan.config_data import SET_NAME, SET_RULE, SPLITS, Split

_CONFIG = Split()  # the defaults


@dataclass(frozen=True)
class SplitSettings:
    """How to split; the fields are the keys of `data` and `split` in the config.

    Attributes:
        method: The units that are moved: random, group, blocked or given.
        valid_fraction: The share of the validation set.
        test_fraction: The share of the test set.
        seed: The random seed.
        group_key: The key in `atoms.info` that names the group, for `group`.
        block_size: The frames of a stretch, for `blocked`.
        near_duplicate: The largest difference of sorted distances of near duplicates (Å).
        keys: The names of the labels in the files.
        config_type_weights: The weight of each config_type in the loss, where it is not 1.
        given: The files of the sets valid and test, for `given`.
        test_files: The files of further test sets, by name.
    """

    method: str = _CONFIG.method
    valid_fraction: float = _CONFIG.valid_fraction
    test_fraction: float = _CONFIG.test_fraction
    seed: int = _CONFIG.seed
    group_key: str | None = _CONFIG.group_key
    block_size: int = _CONFIG.block_size
    near_duplicate: float = _CONFIG.near_duplicate
    keys: Keys = Keys()
    config_type_weights: dict[str, float] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    test_files: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is out of bounds; it is named as the config names it.
        """
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
        for name in self.test_files:
            if not re.fullmatch(SET_NAME, name):
                raise UserError(f"data.test_sets: {name[:60]!r} {SET_RULE}")
        if self.method == "given" and "valid" not in self.given:
            raise UserError("split.valid_file: the method `given` needs it")


def weigh_types(structures: Sequence[Atoms], weights: Mapping[str, float]) -> Sequence[Atoms]:
    """Return structures, the weight of each (MACE's `config_weight`) times that of its config_type.

    The weight before is kept beside it, and counts where a structure that a split has written comes
    again.

    Args:
        structures: The structures; those of a list are changed.
        weights: The weights by config_type; "Default" is the name of structures without one, and
            any name of free atoms is that of all of them.
    """
    factors = {ISOLATED if names_free_atom(name) else name: x for name, x in weights.items()}

    def weigh(atoms: Atoms) -> None:
        factor = factors.get(type_of(atoms), 1.0)
        if factor != 1.0 or GIVEN_WEIGHT in atoms.info:
            atoms.info.setdefault(WEIGHT, 1.0)
            before = atoms.info[GIVEN_WEIGHT if GIVEN_WEIGHT in atoms.info else WEIGHT]
            atoms.info |= {GIVEN_WEIGHT: before, WEIGHT: before * factor}

    return changed(structures, weigh)


def unknown_types(structures: Iterable[Atoms], weights: dict[str, float]) -> list[str]:
    """Return the names among weights that no structure has.

    Args:
        structures: The structures.
        weights: The weights by config_type.
    """
    if not weights:
        return []
    present = {type_of(atoms) for atoms in structures}
    return sorted(x for x in weights if (ISOLATED if names_free_atom(x) else x) not in present)


def groups_of(
    structures: Sequence[Atoms], settings: SplitSettings, dataset: str | Path
) -> list[object]:
    """Return the group of each structure.

    Args:
        structures: The structures in the order of their file.
        settings: The settings of the split.
        dataset: The file, for messages.

    Raises:
        UserError: A structure has no `group_key`.
    """
    if settings.method == "blocked":
        return [i // settings.block_size for i in range(len(structures))]
    if settings.method == "random":
        return list(range(len(structures)))
    key = settings.group_key
    for i, atoms in enumerate(structures):
        if key not in atoms.info:
            raise UserError(
                f"{where(atoms, dataset, i)}: has no {key}; every structure needs the "
                "split.group_key"
            )
    found = (atoms.info[key] for atoms in structures)
    return [x if isinstance(x, Hashable) else str(np.asarray(x).tolist()) for x in found]


def allocate(groups: list[object], settings: SplitSettings) -> list[str]:
    """Return the set of each structure.

    Shuffled groups fill test, then valid; train takes the rest.  A set is full at the size nearest
    to its fraction; one with a fraction above 0 gets at least one group.

    Args:
        groups: The group of each structure.
        settings: The settings of the split.
    """
    names = list(dict.fromkeys(groups))
    np.random.default_rng(settings.seed).shuffle(names)
    size = Counter(groups)
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
