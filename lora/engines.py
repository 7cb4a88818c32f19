"""Simulation engines: an exported model run in each, one structure at a time.

Each opens the file that its users would open, and says energy, forces and stress of a structure,
and the total energies along a short run at constant energy.  LAMMPS has a module of its own.
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
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from lora._upstream import default_dtype, upstream
from lora.structures import bare

EVERY = 5  # steps between the energies of a run
KJ_PER_MOL = 96.4853  # in an eV, as openmmml has it


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


class Ase(Engine):
    """MACE's own calculator, the way most people run a model."""

    name, suffix = "ase", ".model"

    def __init__(self, path: Path, dtype: torch.dtype, head: str | None = None) -> None:
        super().__init__(path, dtype)
        chosen = {"head": head} if head else {}
        with quiet(), default_dtype(dtype):
            calculator = upstream("mace.calculators").MACECalculator
            self.calculator = calculator(
                str(path), device="cpu", default_dtype=name_of(dtype), **chosen
            )

    def __call__(self, atoms: Atoms) -> Answer:
        atoms = bare(atoms)
        atoms.calc = self.calculator
        with default_dtype(self.dtype):
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
        return Answer(float(energy), np.array(forces, dtype=float), stress)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
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

    name, suffix = "cueq", "-cueq.model"
    modules = ("cuequivariance_torch",)
    own_couplings = True


class TorchSim(Engine):
    """torch-sim, which runs many systems at once; here one."""

    name, suffix = "torch-sim", ".model"
    modules = ("torch_sim",)

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        upstream("mace.modules")
        with quiet():
            mace = importlib.import_module("torch_sim.models.mace").MaceModel
            model = torch.load(path, map_location="cpu", weights_only=False)
            self.model = mace(model, device=torch.device("cpu"), dtype=dtype)

    def __call__(self, atoms: Atoms) -> Answer:
        periodic = all_or_none(atoms)
        self.model._compute_stress = periodic
        out = self.model(self._state(atoms))
        stress = out["stress"][0].numpy().astype(float) if periodic else None
        return Answer(float(out["energy"][0]), out["forces"].numpy().astype(float), stress)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        all_or_none(atoms)
        md = importlib.import_module("torch_sim.integrators")
        step_time = (
            timestep / 1000 * float(importlib.import_module("torch_sim.units").MetalUnits.time)
        )
        dt, zero = (torch.tensor(x, dtype=self.dtype) for x in (step_time, 0.0))
        self.model._compute_stress = False
        state = self._state(atoms)
        state.momenta = torch.tensor(atoms.get_momenta(), dtype=self.dtype)
        start, step = md.nve(self.model, dt=dt, kT=zero)
        state = start(state)
        energies = []
        for i in range(steps + 1):
            if i % EVERY == 0:
                kinetic = (state.momenta.double() ** 2 / state.masses.double()[:, None]).sum() / 2
                energies.append(float(state.energy[0]) + float(kinetic))
            state = step(state, dt=dt)
        return energies

    def _state(self, atoms: Atoms) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sim = importlib.import_module("torch_sim")
            return sim.initialize_state([bare(atoms)], torch.device("cpu"), self.dtype)


class OpenMM(Engine):
    """OpenMM through openmmml, on its reference platform; it asks for no stress."""

    name, suffix = "openmm", ".model"
    modules = ("openmm", "openmmml")

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        upstream("mace.modules")
        self.potential = importlib.import_module("openmmml").MLPotential(
            "mace", modelPath=str(path)
        )

    def __call__(self, atoms: Atoms) -> Answer:
        context, rotation = self._context(atoms, 1.0)
        state = context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy()._value / KJ_PER_MOL
        forces = state.getForces(asNumpy=True)._value / (10 * KJ_PER_MOL)
        return Answer(energy, forces @ rotation)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        context, rotation = self._context(atoms, timestep)
        per_ps = 1000 * units.fs  # ASE's time in a picosecond
        context.setVelocities(atoms.get_velocities() @ rotation.T * per_ps / 10)  # nm/ps
        energies = []
        for i in range(0, steps + 1, EVERY):
            context.getIntegrator().step(EVERY if i else 0)
            state = context.getState(energy=True)
            total = state.getPotentialEnergy() + state.getKineticEnergy()
            energies.append(total._value / KJ_PER_MOL)
        return energies

    def _context(self, atoms: Atoms, timestep: float) -> tuple[Any, np.ndarray]:
        """OpenMM's context, and the rotation [3, 3] from ASE's axes to its own: x' = R x."""
        periodic = all_or_none(atoms)
        openmm = importlib.import_module("openmm")
        app, rotation = importlib.import_module("openmm.app"), np.eye(3)
        topology = app.Topology()
        residue = topology.addResidue("MOL", topology.addChain())
        for symbol in atoms.get_chemical_symbols():
            topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
        if periodic:
            cell, rotation = atoms.cell.standard_form()
            reduce = importlib.import_module("openmm.app.internal.unitcell")
            vectors = [openmm.Vec3(*row) * 0.1 for row in np.array(cell)]
            topology.setPeriodicBoxVectors(
                reduce.reducePeriodicBoxVectors(vectors * openmm.unit.nanometer)
            )
        precision = {torch.float32: "single", torch.float64: "double"}[self.dtype]
        with quiet(), default_dtype(self.dtype):
            system = self.potential.createSystem(
                topology, precision=precision, returnEnergyType="energy"
            )
        for i, mass in enumerate(atoms.get_masses()):
            system.setParticleMass(i, mass)
        integrator = openmm.VerletIntegrator(timestep / 1000)
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, integrator, platform)
        context.setPositions(atoms.positions @ rotation.T / 10)
        return context, rotation


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
