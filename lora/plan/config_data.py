"""The sections of the config that describe model and data: foundation, data, split, e0s."""

from typing import Annotated

from pydantic import Field

from lora.catalogue.bounds import Bounds
from lora.plan.sections import Section
from lora.plan.values import (
    As,
    Count,
    Element,
    FilePath,
    Finite,
    NotNegative,
    Positive,
    Seed,
    Text,
    matching,
    name_or,
    number,
    one_of,
    tuple_of,
)

SPLITS = ("random", "group", "blocked", "given")
E0S = ("estimated", "isolated", "foundation", "average")
SET_NAME = r"(?!(?:test|valid|train)$)[A-Za-z0-9_][A-Za-z0-9_.-]*"
SET_RULE = (
    "is no name of a test set; use letters, digits and _.-, and not the words test, valid and train"
)
SHARE = number(Bounds(ge=0, lt=1))
WEIGHTS = dict[Text, NotNegative]
E0_VALUES = Annotated[dict[Element, Finite], Field(min_length=1)]


class Foundation(Section):
    """The foundation model that is fine-tuned."""

    model: FilePath = Field(
        description="A .model file, or a name that MACE knows (medium_omat, small, medium_off, "
        "...). A .model file can run code when it is opened: use only files that you trust."
    )
    head: Text | None = Field(
        default=None,
        description="The head to fine-tune. It has to be named where the model has several.",
    )


class TestSet(Section):
    """A further test set; it is only evaluated on."""

    __test__ = False  # no test for pytest

    name: Annotated[str, As(matching(SET_NAME, SET_RULE))] = Field(
        description="The name of the set: letters, digits and _.-, but not test, valid or train."
    )
    file: FilePath = Field(description="The structures, labelled like data.file.")


class Data(Section):
    """The labelled dataset."""

    file: FilePath = Field(
        description="Structures with total energies (eV) and forces (eV/Å), as extended xyz."
    )
    test_sets: Annotated[tuple[TestSet, ...], As(tuple_of(TestSet))] = Field(
        default=(),
        description="Further test sets, each as {name: ..., file: ...}. They are only evaluated "
        "on.",
    )
    energy_key: Text = Field(
        default="REF_energy", description="The name of the total energy (eV) in the files."
    )
    forces_key: Text = Field(
        default="REF_forces", description="The name of the forces (eV/Å) in the files."
    )
    stress_key: Text = Field(
        default="REF_stress",
        description="The name of the stress (eV/Å^3) in the files: 6 numbers (Voigt) or 9. The "
        "files need not have it.",
    )
    config_type_weights: Annotated[dict[str, float], As(WEIGHTS)] = Field(
        default={},
        description="The weight of each config_type in the loss, as {config_type: weight}; others "
        "have 1. Default is the name of structures without a config_type.",
    )


class Split(Section):
    """The division of data.file into training, validation and test set."""

    method: Annotated[str, As(one_of(SPLITS))] = Field(
        default="random",
        description="The units that are moved: random takes single structures; group takes "
        "structures with the same group_key together; blocked takes contiguous stretches of the "
        "file together; given takes files of your own.",
    )
    valid_fraction: Annotated[float, As(SHARE)] = Field(
        default=0.1,
        description="The share of the structures on which points are compared and stopped.",
    )
    test_fraction: Annotated[float, As(SHARE)] = Field(
        default=0.1, description="The share of the structures that are only evaluated on."
    )
    seed: Seed = Field(default=0, description="The random seed of the split.")
    group_key: Text | None = Field(
        default=None,
        description="For group: the key in the comment line that names the group of a structure.",
    )
    block_size: Count = Field(default=20, description="For blocked: the frames of a stretch.")
    near_duplicate: NotNegative = Field(
        default=0.01,
        description="Two structures of different sets are reported as near duplicates if their "
        "sorted interatomic distances differ by no more than this (Å).",
    )
    valid_file: FilePath | None = Field(default=None, description="For given: the validation set.")
    test_file: FilePath | None = Field(default=None, description="For given: the test set.")


class E0s(Section):
    """Atomic reference energies of the new level of theory."""

    method: Annotated[
        str | dict[str, float],
        As(name_or(E0S, E0_VALUES, "{symbol: eV}", mapping=True)),
    ] = Field(
        default="estimated",
        description="The origin of the E0s: estimated fits the foundation model's errors to the "
        "element counts by least squares; isolated takes free atoms in the data "
        "(config_type=IsolatedAtom); foundation leaves them unchanged; average fits total "
        "energies by least squares (not advised). Or give the values, symbol: eV.",
    )
    max_error: Positive = Field(
        default=500,
        description="The largest error of the foundation model with the new E0s (meV/atom).",
    )
    stop: bool = Field(
        default=True,
        description="Stop the sweep where max_error is exceeded; false only warns.",
    )
