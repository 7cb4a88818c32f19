"""Say what the fair table consists of: bases, molecules, methods, rates, cells, and their configs.

A cell is one base, one molecule, one number of training structures and one kind of E0s.  In each,
every method trains twice: at some learning rates with one seed, until the rate with the lowest
validation error lies between two others (the stage rates), and at that rate with three other seeds
(the stage table).
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import write_text
from lora.files.xyz import scan
from lora.plan.points import Point
from lora.plan.sweep import Sweep

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMON = HERE / "common.yaml"
RATES, TABLE = "rates", "table"  # the stages
QUICKSTART = ROOT / "workflow/resources/quickstart"
BASES = {"small": QUICKSTART / "base.model", "larger": HERE / "larger.model"}
MOLECULES = {"ethanol": 9, "malonaldehyde": 9, "uracil": 12, "toluene": 15, "aspirin": 21}  # atoms
SIZES, E0S = (50, 10, 100), ("estimated", "average")
EPOCHS = {10: 1000, 50: 200, 100: 100}  # by training structures: 2,000 steps of 5 structures each
SEEDS = {RATES: (0,), TABLE: (1, 2, 3)}
LADDER = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # of learning rates
LOW, HIGH = LADDER[2:5], LADDER[3:6]  # which a method tries first
FIRST = dict.fromkeys(("full", "freeze", "sparse"), LOW) | dict.fromkeys(("lora", "dora"), HIGH)
FIRST |= dict.fromkeys(("lora_all", "lora_gradient"), HIGH)
TITLES = {
    "full": "full fine-tuning",
    "freeze": "freezing",
    "lora": "LoRA",
    "lora_all": "LoRA, all placements",
    "dora": "DoRA",
    "sparse": "sparse",
    "lora_gradient": "LoRA, gradient start",
}
FEW = ("full", "lora", "lora_gradient")  # the methods at other sizes than the first
FOUNDATION = "foundation"
Rates = tuple[float, ...]
SETS = ("train", "valid", "test")
SOURCE = "rMD17, doi 10.24435/materialscloud:wy-kn"


@dataclass(frozen=True)
class Part:
    """One sweep of a cell: methods that are a product of a grid, and baselines.

    Attributes:
        name: The name in the folder of a cell.
        methods: {method of a config: method of the table}.
        grid: What the grid has beside its adapters, seeds and rates.
    """

    name: str
    methods: Mapping[str, str]
    grid: Mapping[str, Any] = field(default_factory=dict)

    def among(self, wanted: Iterable[str]) -> "Part":
        """Return the part with some methods of the table alone."""
        kept = {key: x for key, x in self.methods.items() if x in set(wanted)}
        return Part(self.name, kept, self.grid)

    def method_of(self, point: Point) -> str:
        """Return the method of the table of a point."""
        return self.methods[point.settings.method] if point.settings else FOUNDATION


PARTS = (
    Part("plain", {x: x for x in ("full", "freeze", "lora", "dora", "sparse")}),
    Part("all", {"lora": "lora_all"}, {"placement": ["all"]}),
    Part("gradient", {"lora": "lora_gradient"}, {"start": ["gradient"]}),
)
BASELINES = ("full", "freeze")


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        base: The base, of `BASES`.
        molecule: The molecule.
        n: The number of training structures.
        e0s: The method of `e0s` in the config.
        epochs: The epochs of each training; 0 for the usual ones, of `EPOCHS`.
    """

    base: str
    molecule: str
    n: int
    e0s: str
    epochs: int = 0

    @property
    def name(self) -> str:
        """Return its name, of its CSV and its folder."""
        longer = f"_{self.epochs}epochs" if self.length != EPOCHS[self.n] else ""
        return f"{self.base}_{self.molecule}_n{self.n}_{self.e0s}{longer}"

    @property
    def length(self) -> int:
        """Return the epochs of each training."""
        return self.epochs or EPOCHS[self.n]

    @property
    def methods(self) -> tuple[str, ...]:
        """Return its methods: all with the first size, a few with others."""
        return tuple(TITLES) if self.n == SIZES[0] else FEW

    @property
    def parts(self) -> list[Part]:
        """Return its sweeps."""
        return [x for x in (part.among(self.methods) for part in PARTS) if x.methods]

    @property
    def trainings(self) -> int:
        """Return how many trainings it takes at least, of both stages."""
        return sum(len(FIRST[x]) + len(SEEDS[TABLE]) for x in self.methods)

    @property
    def work(self) -> float:
        """Return what it costs: atoms that go through the model, validation at a third."""
        return self.trainings * self.length * MOLECULES[self.molecule] * (self.n + 50 / 3)

    def overlay(
        self, stage: str, part: Part, rates: Mapping[str, Rates], work: Path
    ) -> dict[str, Any]:
        """Return what a sweep has beside `COMMON`.

        Args:
            stage: rates or table.
            part: The sweep.
            rates: The learning rates of each method of the table.
            work: The folder of all cells.
        """
        data = data_of(work, self.molecule, self.n)
        adapters = [x for x in part.methods if x not in BASELINES]
        final = stage == TABLE
        found: dict[str, Any] = {
            "results": str(self.results(work, stage, part)),
            "foundation": {"model": str(BASES[self.base])},
            "data": {"file": str(data["train"])},
            "split": {"valid_file": str(data["valid"]), "test_file": str(data["test"])},
            "e0s": {"method": self.e0s},
            "grid": {"adapter": adapters, "seed": list(SEEDS[stage]), **part.grid},
            "baselines": [FOUNDATION] * final + [x for x in part.methods if x in BASELINES],
            "train": {"max_num_epochs": self.length, "patience": self.length},
            "methods": {key: {"lr": list(rates[x])} for key, x in part.methods.items()},
        }
        if final:
            return found | {"checks": {"holdout_file": str(holdout_of(work))}}
        return found | {"checks": {"quick": [], "standard": []}}

    def results(self, work: Path, stage: str, part: Part) -> Path:
        """Return the results folder of a sweep."""
        return work / self.name / f"{stage}_{part.name}"

    def sweep(self, work: Path, stage: str, part: Part) -> Sweep:
        """Return a sweep that was run."""
        return Sweep.load(self.results(work, stage, part) / "plan.json")


def cells(
    bases: Iterable[str], sizes: Iterable[int], e0s: Iterable[str], molecules: Iterable[str]
) -> list[Cell]:
    """Return cells in the order in which they are run: the last varies first."""
    every = itertools.product(bases, sizes, e0s, molecules)
    return [Cell(base, molecule, n, kind) for base, n, kind, molecule in every]


def between(tried: Mapping[str, Rates], best: Mapping[str, float]) -> dict[str, Rates]:
    """Return the learning rates to try, with the next one where the best lies at an end.

    Args:
        tried: The rates of each method so far, ascending.
        best: The best of them.
    """
    more = {}
    for method, rates in tried.items():
        low, high = LADDER.index(rates[0]), LADDER.index(rates[-1])
        low -= best[method] == rates[0] and low > 0
        high += best[method] == rates[-1] and high < len(LADDER) - 1
        more[method] = LADDER[low : high + 1]
    return more


def data_of(work: Path, molecule: str, n: int) -> dict[str, Path]:
    """Return the files of a cell, by their set."""
    folder = work / "data" / molecule
    return {x: folder / (f"train_{n}.xyz" if x == "train" else f"{x}.xyz") for x in SETS}


def holdout_of(work: Path) -> Path:
    """Return the file of structures on which forgetting is measured, of both bases' theory."""
    return work / "data/holdout.xyz"


def prepare(source: Path, work: Path, molecule: str, n: int) -> None:
    """Write the data of a cell: of training structures the first n, all without their box.

    Without the periodic box of 20 Å, in which images are 11 Å apart at least, the checks take them
    for molecules.  All else stays as it stands in the files.

    Args:
        source: The folder with {molecule}/{train,valid,test}.xyz.
        work: The folder of all cells.
        molecule: The molecule.
        n: The number of training structures.

    Raises:
        UserError: A file is missing or has too few structures.
    """
    write_text(holdout_of(work), (QUICKSTART / "base_holdout.xyz").read_text())
    for name, path in data_of(work, molecule, n).items():
        given = source / molecule / f"{name}.xyz"
        if not given.is_file():
            raise UserError(
                f"{given}: is not there; --data names a folder with MOLECULE/train.xyz, valid.xyz "
                f"and test.xyz of {SOURCE}, extended xyz with REF_energy (eV) and REF_forces (eV/Å)"
            )
        frames = [unboxed(frame.lines) for frame in scan(given)]
        kept = frames[:n] if name == "train" else frames
        if len(kept) < n and name == "train":
            raise UserError(f"{given}: has {len(kept)} structures, and {n} are asked for")
        write_text(path, "".join(kept))


def unboxed(lines: list[str]) -> str:
    """Return a frame of an extended xyz file without its cell.

    Args:
        lines: The lines of the frame.
    """
    comment = re.sub(r'\s*\b(Lattice="[^"]*"|pbc="[^"]*")', "", lines[1])
    return "".join([lines[0], comment.lstrip(), *lines[2:]])
