"""The interface of simulation engines: an exported model that is run one structure at a time.

A driver opens the file that users of the engine would open.  It gives energy, forces and stress of
a structure, and the total energies along a short run at constant energy.
"""

import contextlib
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms

from lora.mace.door import upstream

EVERY = 5  # steps between the energies of a run


class Answer(NamedTuple):
    """What an engine says of a structure.

    Attributes:
        energy: The total energy (eV).
        forces: The forces [n_atoms, 3] (eV/Å).
        stress: The stress [3, 3] (eV/Å^3), or None.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


class CannotError(Exception):
    """Raised where an engine cannot run a structure or a file; the table says not checked."""


class Engine(ABC):
    """An exported file in the engine that it is for: a driver of `lora.catalogue.engines`.

    Args:
        path: The file.
        dtype: The precision in which it is to run.
    """

    own_couplings = False  # True on cuEquivariance's couplings; the model's may be in float32

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.path, self.dtype = path, dtype

    @classmethod
    def dtype_of(cls, path: Path) -> torch.dtype:
        """Return the precision of the weights in an exported file.

        Args:
            path: The file.
        """
        upstream("mace.modules")  # so that the classes of the pickle are found
        return weights_of(torch.load(path, map_location="cpu", weights_only=False))

    @abstractmethod
    def __call__(self, atoms: Atoms) -> Answer:
        """Return the energy (eV) and forces (eV/Å) of a structure.

        Args:
            atoms: The structure; where it is periodic and the engine gives one, the stress
                (eV/Å^3) is returned, too.

        Raises:
            CannotError: The engine cannot run this structure.
        """

    @abstractmethod
    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Return the total energies (eV) of MD at constant energy, every `EVERY` steps.

        Args:
            atoms: The structure, with velocities.
            steps: The number of steps.
            timestep: The time step (fs).
        """


def weights_of(held: Any) -> torch.dtype:
    """Return the precision of the weights of a model, or of the `model` that an object holds.

    Args:
        held: What an exported file holds.
    """
    found: torch.dtype = next(getattr(held, "model", held).parameters()).dtype
    return found


def all_or_none(atoms: Atoms) -> bool:
    """Return True for a structure that is periodic in all directions.

    Args:
        atoms: The structure.

    Raises:
        CannotError: It is periodic in some directions only, which some engines do not support.
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        raise CannotError(
            "mixed periodic boundaries (a slab); this engine supports fully periodic or "
            "non-periodic systems only"
        )
    return bool(atoms.pbc.all())


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a precision: "float32" or "float64".

    Args:
        dtype: The precision.
    """
    return str(dtype).removeprefix("torch.")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what engines print and warn while they load."""
    before = logging.root.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.root.setLevel(before)
