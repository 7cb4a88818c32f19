"""Find labels in a file that no key of the config asks for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora.data.labels import OTHER, Keys
from lora.data.names import SIZES, meaning
from lora.files.xyz import is_xyz, scan
from lora.plan.labels import is_free

PLAIN = {"total_charge": 0.0, "total_spin": 1.0}  # what is assumed anyway


@dataclass(frozen=True)
class Unused:
    """A label that no key asks for.

    Attributes:
        name: Its name in the file.
        quantity: What it seems to be: energy, forces, stress, virials, total_charge, total_spin.
        frames: The number of frames that have it.
        instead: The number of those that have no such label under the key that the config names:
            where it is 0, nothing is lost.
    """

    name: str
    quantity: str
    frames: int
    instead: int


def unused_labels(path: str | Path, keys: Keys) -> list[Unused]:
    """Return the labels of an extended xyz file that no key asks for, the most frequent first.

    A label is known by its name and its shape.  Stress and virials stand for each other.  Free
    atoms are passed over: they need no forces.

    Args:
        path: The file; of other formats nothing is said.
        keys: The names of the labels that are read.

    Raises:
        UserError: A line of the file is not what it has to be.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    asked = keys.named()
    for frame in scan(Path(path)) if is_xyz(Path(path)) else ():
        if is_free(frame):
            continue
        values, columns = frame.values, frame.columns
        present = {*values, *columns}
        for name, quantity in _labels(values, columns):
            if name in asked.values():
                continue
            found = counts.setdefault((name, quantity), [0, 0])
            own = {asked[quantity], asked[OTHER.get(quantity, quantity)]}
            found[0], found[1] = found[0] + 1, found[1] + (not own & present)
    rows = [Unused(*key, *numbers) for key, numbers in counts.items()]
    return sorted(rows, key=lambda x: (-x.instead, -x.frames, x.name))


def _labels(values: dict[str, str], columns: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield name and quantity of what looks like a label in a frame."""
    for name, n in columns.items():
        if meaning(name) == "forces" and n in SIZES["forces"]:
            yield name, "forces"
    for name, value in values.items():
        quantity = meaning(name)
        if quantity in (None, "forces"):
            continue
        numbers = _numbers(value)
        plain = quantity in PLAIN and numbers.size and (numbers == PLAIN[quantity]).all()
        if numbers.size in SIZES[quantity] and not plain:
            yield name, quantity


def _numbers(value: str) -> np.ndarray:
    """Return the numbers of a value of a comment line; none where it holds anything else."""
    try:
        words = re.sub(r"_JSON|[\[\]{},]", " ", value).split()
        return np.array([float(x) for x in words])
    except ValueError:
        return np.empty(0)
