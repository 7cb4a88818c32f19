"""MACE's own calculators in ASE."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from lora.data.structures import bare
from lora.export.engines.base import EVERY, Answer, Engine, name_of, quiet
from lora.mace.calculator import mace_calculator
from lora.mace.door import default_dtype


class Ase(Engine):
    """MACE's own calculator, the way most people run a model."""

    def __init__(self, path: Path, dtype: torch.dtype, head: str | None = None) -> None:
        super().__init__(path, dtype)
        with quiet(), default_dtype(dtype):
            self.calculator, self.model = mace_calculator(
                path, default_dtype=name_of(dtype), head=head
            )

    def __call__(self, atoms: Atoms) -> Answer:
        """Return energy (eV), forces (eV/Å) and, where it is periodic, stress (eV/Å^3)."""
        atoms = bare(atoms)
        atoms.calc = self.calculator
        with default_dtype(self.dtype):
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
        return Answer(float(energy), np.array(forces, dtype=float), stress)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Return the total energies (eV) of MD at constant energy, every `EVERY` steps."""
        moving = atoms.copy()
        moving.calc = self.calculator
        energies: list[float] = []
        dynamics = VelocityVerlet(moving, timestep * units.fs)
        dynamics.attach(lambda: energies.append(moving.get_total_energy()), interval=EVERY)
        with default_dtype(self.dtype):
            dynamics.run(steps)
        return energies


class Cueq(Ase):
    """The copy for cuEquivariance, in MACE's calculator."""

    own_couplings = True
