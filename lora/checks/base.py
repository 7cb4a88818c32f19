"""What a check is, and what it works on."""

from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

N_STRUCTURES = 4  # of the validation set, for checks that hold for any structure


class NotCheckedError(Exception):
    """The sample has nothing to check on, and why."""


@dataclass
class Sample:
    """What the checks work on.

    structures: a few of the validation set
    holdout: labelled structures of the foundation model's own level of theory, or none
    e0s: E0s of that level {symbol: eV}
    crystals: periodic structures of the data, one a composition
    numbers: atomic numbers of the data
    settings: {check: {name: value}} over the arguments of each
    """

    structures: list[Atoms]
    numbers: list[int]
    holdout: list[Atoms] = field(default_factory=list)
    e0s: dict[str, float] = field(default_factory=dict)
    crystals: list[Atoms] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
