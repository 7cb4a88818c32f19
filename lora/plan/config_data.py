"""The sections of the config that describe model and data: foundation, data, split, audit, e0s."""

from typing import Annotated

from pydantic import Field

from lora.catalogue import findings
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
    known_as,
    matching,
    name_or,
    number,
    one_of,
    tuple_of,
)

SPLITS = ("random", "group", "blocked", "given")
E0S = ("auto", "estimated", "isolated", "foundation", "average", "adapter")
# What ASE reads as a number or as true or false, but for numbers like 600, which it gives back.
NOT_TEXT = (
    r"(?![1-9]\d{0,8}$)\d[\d_]*\.?[\d_]*(?:[eE]-?[\d_]+)?"
    r"|(?i:nan|inf|infinity|t|f|true|false)"
)
SET_NAME = rf"(?!(?:test|valid|train|{NOT_TEXT})$)[A-Za-z0-9_][A-Za-z0-9_.-]*"
SET_RULE = (
    "is no name of a test set; use letters, digits and _.-, and not the words test, valid, train, "
    "true, false, nan and inf, nor a number with a point, an exponent or a leading zero"
)
SHARE = number(Bounds(ge=0, lt=1))
WEIGHTS = dict[Text, NotNegative]
E0_VALUES = Annotated[dict[Element, Finite], Field(min_length=1)]


class Foundation(Section):
    """The foundation model that is fine-tuned."""

    model: FilePath = Field(
        description="A .model file, a name that MACE knows (medium_omat, small, medium_off, ...), "
        "or the folder of an adapter of an earlier sweep, which is merged into its base. A .model "
        "file can run code when it is opened: use only files that you trust."
    )
    base: FilePath | None = Field(
        default=None,
        description="Where model is an adapter, the foundation model that it was trained on, a "
        ".model file or a name; null means that of its results folder, else what it names.",
    )
    head: Text | None = Field(
        default=None,
        description="The head to fine-tune. It has to be named where the model has several.",
    )
    licence: Text | None = Field(
        default=None,
        description="The licence of the foundation model, for report and card; null means that of "
        "the published model of this name, which is listed below, else that it is not known.",
    )


class TestSet(Section):
    """A further test set; it is only evaluated on."""

    __test__ = False  # no test for pytest

    name: Annotated[str, As(matching(SET_NAME, SET_RULE))] = Field(
        description="The name of the set: letters, digits and _.-, but not test, valid or train, "
        "nor what reads as true, false or a number; whole numbers such as 600 can be one."
    )
    file: FilePath = Field(description="The structures, labelled like data.file.")


class Data(Section):
    """The labelled dataset."""

    file: FilePath = Field(
        description="Structures with total energies (eV) and forces (eV/Å): extended xyz, another "
        "file that ASE reads, or, for data larger than memory too, HDF5 of mace_prepare_data or "
        "LMDB of fairchem, a file or a folder of them, whose labels need no keys."
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
        description="The name of the stress (eV/Å^3) in the files: 6 numbers (Voigt) or 9.",
    )
    virials_key: Text = Field(
        default="REF_virials",
        description="The name of the virials (eV) in the files: 6 numbers (Voigt) or 9, minus the "
        "stress times the volume.",
    )
    total_charge_key: Text = Field(
        default="total_charge",
        description="The name of the total charge (e) in the files, for models that know charges.",
    )
    total_spin_key: Text = Field(
        default="total_spin",
        description="The name of the spin multiplicity (2S+1) in the files, for models that know "
        "spins.",
    )
    config_type_weights: Annotated[dict[str, float], As(WEIGHTS)] = Field(
        default={},
        description="The weight of each config_type in the loss, as {config_type: weight}; others "
        "have 1. Default is the name of structures without a config_type.",
    )


LABELS = tuple(name for name in Data.model_fields if name.endswith("_key"))


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
        "sorted interatomic distances differ by no more than this (Å); of more than 500 atoms, "
        "the distances to nearest neighbours.",
    )
    valid_file: FilePath | None = Field(default=None, description="For given: the validation set.")
    test_file: FilePath | None = Field(default=None, description="For given: the test set.")

    def given_files(self) -> dict[str, str]:
        """Return the validation and test files that the user gives, by the set that they are."""
        given = {"valid": self.valid_file, "test": self.test_file}
        return {name: path for name, path in given.items() if path}


class Audit(Section):
    """What is compared of data and foundation model before E0s and training, and how strictly."""

    accept: Annotated[tuple[str, ...], As(tuple_of(known_as(findings.NAMES, "a finding")))] = Field(
        default=(),
        description="The findings that the sweep goes on with, by the names that the audit gives "
        "them. The card of the exported model names them.",
    )
    least_correlation: Annotated[float, As(number(Bounds(gt=0, lt=1)))] = Field(
        default=0.5,
        description="The correlation of labels with the foundation model's predictions, less its "
        "statistical error, below which the audit does not judge their unit and sign, and says so.",
    )
    outlier: Positive = Field(
        default=10,
        description="The distance from the rest, in spreads (1.4826 times the median absolute "
        "deviation), from which on a frame is named.",
    )
    same_geometry: NotNegative = Field(
        default=1,
        description="The largest difference of labels of equal geometries (meV/atom, meV/Å).",
    )
    max_frames: Count = Field(
        default=500, description="The largest number of frames that predictions are made for."
    )
    max_atoms: Count = Field(
        default=20_000, description="The largest number of atoms in those frames."
    )
    seed: Seed = Field(default=0, description="The random seed for choosing those frames.")


class E0s(Section):
    """Atomic reference energies of the new level of theory."""

    method: Annotated[
        str | dict[str, float],
        As(name_or(E0S, E0_VALUES, "{symbol: eV}", mapping=True)),
    ] = Field(
        default="auto",
        description="The origin of the E0s: auto fits the foundation model's errors to the "
        "element counts by least squares, and stays near free atoms where the compositions leave "
        "E0s open; estimated takes the smallest shifts there; isolated takes free atoms in the "
        "data (config_type=IsolatedAtom) or in isolated_file; foundation leaves E0s unchanged; "
        "average fits total energies by least squares (not advised); adapter takes those of the "
        "adapter that trainings go on from (start_from). Or give the values, symbol: eV.",
    )
    isolated_file: FilePath | None = Field(
        default=None,
        description="For auto and isolated: free atoms at the level of theory of the data, "
        "labelled like data.file; one for each element, as far as they are known.",
    )
    max_error: Positive = Field(
        default=500,
        description="The largest error of the foundation model with the new E0s (meV/atom).",
    )
    stop: bool = Field(
        default=True,
        description="Stop the sweep where max_error is exceeded; false only warns.",
    )
