"""Groups of structures that a split keeps together, and the set of each."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from lora.errors import UserError
from lora.plan.config_data import SPLITS


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
