"""torch-sim."""

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from lora.data.structures import bare
from lora.export.engines.base import EVERY, Answer, Engine, all_or_none, quiet
from lora.mace.door import upstream


class TorchSim(Engine):
    """torch-sim, which runs many systems at once; here one."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        super().__init__(path, dtype)
        upstream("mace.modules")
        with quiet():
            mace = importlib.import_module("torch_sim.models.mace").MaceModel
            model = torch.load(path, map_location="cpu", weights_only=False)
            self.model = mace(model, device=torch.device("cpu"), dtype=dtype)

    def __call__(self, atoms: Atoms) -> Answer:
        """Return energy (eV), forces (eV/Å) and, where it is periodic, stress (eV/Å^3)."""
        periodic = all_or_none(atoms)
        self.model._compute_stress = periodic
        out = self.model(self._state(atoms))
        stress = out["stress"][0].numpy().astype(float) if periodic else None
        return Answer(float(out["energy"][0]), out["forces"].numpy().astype(float), stress)

    def run(self, atoms: Atoms, steps: int, timestep: float) -> list[float]:
        """Return the total energies (eV) of MD at constant energy, every `EVERY` steps."""
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
