"""OpenMM through openmmml."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from lora.export.engines.base import EVERY, Answer, Engine, all_or_none, quiet
from lora.mace.door import default_dtype, upstream

KJ_PER_MOL = 96.4853  # in an eV, as openmmml has it


class OpenMM(Engine):
    """OpenMM through openmmml, on its reference platform; it gives no stress."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        upstream("mace.modules")
        self.potential = importlib.import_module("openmmml").MLPotential(
            "mace", modelPath=str(path)
        )

    def __call__(self, atoms: Atoms) -> Answer:
        """Return energy (eV) and forces (eV/Å)."""
        context, rotation = self._context(atoms, 1.0)
        state = context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy()._value / KJ_PER_MOL
        forces = state.getForces(asNumpy=True)._value / (10 * KJ_PER_MOL)
        return Answer(energy, forces @ rotation)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Return the total energies (eV) of MD at constant energy, every `EVERY` steps.

        OpenMM's velocities are those of half a step ago, from which it makes those of a kinetic
        energy; put there, they give the run of velocity Verlet.
        """
        context, rotation = self._context(atoms, timestep)
        forces = context.getState(forces=True).getForces(asNumpy=True)._value  # kJ/mol/nm
        per_ps = 1000 * units.fs  # ASE's time in a picosecond
        now = atoms.get_velocities() @ rotation.T * per_ps / 10  # nm/ps
        context.setVelocities(now - 0.5 * timestep / 1000 * forces / atoms.get_masses()[:, None])
        energies = []
        for i in range(0, steps + 1, EVERY):
            context.getIntegrator().step(EVERY if i else 0)
            state = context.getState(energy=True)
            total = state.getPotentialEnergy() + state.getKineticEnergy()
            energies.append(total._value / KJ_PER_MOL)
        return energies

    def _context(self, atoms: Atoms, timestep: float) -> tuple[Any, np.ndarray]:
        """Return OpenMM's context, and the rotation [3, 3] from ASE's axes to its own: x' = R x."""
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
