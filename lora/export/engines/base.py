"""Simulation engines: an exported model run in each, one structure at a time.

Each opens the file that its users would open, and says energy, forces and stress of a structure,
and the total energies along a short run at constant energy.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms

EVERY = 5  # steps between the energies of a run


class Answer(NamedTuple):
    """Energy (eV), forces [n_atoms, 3] (eV/Å), stress [3, 3] (eV/Å^3) or None."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None


class CannotError(Exception):
    """What an engine cannot run, and why; in the table it stands as not checked."""


class Engine(ABC):
    """An exported file in the engine that it is for.

    Args:
        path: of the file
        dtype: in which it is to run
    """

    name = ""
    suffix = ""  # of the file, after the point's name
    modules: tuple[str, ...] = ()  # that it runs in
    own_couplings = False  # cuEquivariance's, where the model may have float32's

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.path, self.dtype = path, dtype

    @classmethod
    def missing(cls) -> list[str]:
        """The modules that are not installed."""
        return [name for name in cls.modules if importlib.util.find_spec(name) is None]

    @abstractmethod
    def __call__(self, atoms: Atoms) -> Answer:
        """Energy, forces and, if it is periodic and the engine knows it, stress of a structure."""

    @abstractmethod
    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Total energies (eV) at constant energy, every `EVERY` steps, from the velocities on.

        Args:
            timestep: fs
        """


def all_or_none(atoms: Atoms) -> bool:
    """Whether a structure is periodic.  Raises CannotError for a slab, which some engines lack."""
    if atoms.pbc.any() and not atoms.pbc.all():
        raise CannotError("a slab; it is periodic in all directions or in none")
    return bool(atoms.pbc.all())


def name_of(dtype: torch.dtype) -> str:
    """ "float32" or "float64"."""
    return str(dtype).removeprefix("torch.")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what engines print and warn while they load."""
    before = logging.root.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.root.setLevel(before)
