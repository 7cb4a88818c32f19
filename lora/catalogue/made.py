"""The kinds of structures that are made around a training set: what each is, and who makes it."""

from dataclasses import dataclass

from lora.catalogue.bounds import Bounds


@dataclass(frozen=True)
class Kind:
    """One way to make structures out of others.

    Attributes:
        name: The name in the config, and the config_type of what it makes.
        what: What it makes, for the reference.
        function: The function that makes them, as "module:name".
    """

    name: str
    what: str
    function: str


ROWS = (
    Kind(
        "rattled",
        "every atom moved at random, with a standard deviation of 0.02 to 0.25 Å along each axis",
        "lora.data.around:rattled",
    ),
    Kind(
        "strained",
        "cells with their atoms, and molecules, stretched by up to 15 % and sheared by up to 10 %",
        "lora.data.around:strained",
    ),
    Kind(
        "mixed",
        "parts of two structures put together: of molecules, turned at random, a part of each; of "
        "crystals a slice of one in place of a slice of the other",
        "lora.data.around:mixed",
    ),
    Kind(
        "changed",
        "other compositions of the same elements: one to three atoms exchanged for another "
        "element, removed or added",
        "lora.data.around:changed",
    ),
    Kind(
        "heated",
        "frames of short molecular dynamics of the foundation model at the temperatures, one half "
        "of the runs from structures of the training set, the other from mixed and changed ones",
        "lora.calculators.heated:heated",
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)
CANDIDATES = 4  # made for each structure that is trained on
TEMPERATURE = Bounds(gt=0, le=10_000)  # K
