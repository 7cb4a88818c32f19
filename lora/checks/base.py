"""The sample of structures that checks work on, and the error of a check that cannot run.

A check is a function of a potential, a sample and the settings of its row in
`lora.catalogue.checks`.  It returns a number, lower is better, and details for the JSON file.  The
defaults of its settings stand in the row alone.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ase import Atoms

from lora.data.statistics import Pair, pair_ranges
from lora.files.terminal import Meter

N_STRUCTURES = 4  # of the validation set, for checks that hold for any structure
LONGEST = 7.0  # Å, of the distances of pairs; few models reach further


class NotCheckedError(Exception):
    """Raised where the sample has nothing to check on; the message says why."""


@dataclass
class Sample:
    """The structures that the checks work on.

    Attributes:
        structures: A few of the validation set.
        numbers: The atomic numbers of the data.
        holdout: Labelled structures of the foundation model's own level of theory, or none.
        e0s: The E0s of that level, {symbol: eV}.
        crystals: Periodic structures of the data, one of each composition.
        settings: {check: {argument: value}} over the defaults of each.
        many: Structures from all over the validation set, for distances of pairs.
        seed: The random seed of all checks.
        meter: Says how far the checks are.
    """

    structures: list[Atoms]
    numbers: list[int]
    holdout: list[Atoms] = field(default_factory=list)
    e0s: dict[str, float] = field(default_factory=dict)
    crystals: list[Atoms] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    many: list[Atoms] = field(default_factory=list)
    seed: int = 0
    meter: Meter = field(default_factory=Meter)

    @cached_property
    def ranges(self) -> dict[Pair, tuple[float, float]]:
        """The shortest and longest distance (Å) of each pair of elements in the data."""
        return pair_ranges(self.many, LONGEST)
