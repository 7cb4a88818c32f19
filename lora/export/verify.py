"""An export proved in the engines: each against MACE's calculator on the merged model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

from lora.data.statistics import drift
from lora.data.structures import bare
from lora.export.engines.ase import Ase, Cueq
from lora.export.engines.base import EVERY, CannotError, Engine, name_of
from lora.export.engines.lammps import Lammps, LammpsMliap
from lora.export.engines.openmm import OpenMM
from lora.export.engines.torchsim import TorchSim
from lora.export.formats import dtype_of
from lora.mace.kernels import rounded

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (Ase, TorchSim, OpenMM, Lammps, LammpsMliap, Cueq)
}
N_STRUCTURES = 5
# eV/atom; eV/Å and eV/Å^3
BOUNDS = {torch.float64: (1e-10, 1e-9), torch.float32: (1e-6, 1e-5)}
ROUNDED = (1e-7, 1e-6)  # couplings rounded to float32 against cuEquivariance's own, in float64
DRIFT = 1.0  # meV/atom/ps, of the difference to ASE's
TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K


def verify(
    merged: Path,
    files: dict[str, Path],
    structures: list[Atoms],
    dtype: torch.dtype,
    head: str | None = None,
    steps: int = 100,
) -> list[dict[str, Any]]:
    """Run structures through each engine and compare with the merged model in ASE.

    Args:
        merged: the .model file that the export was made from
        files: {engine: its exported file}
        structures: a few of them are taken
        dtype: that the export is said to have; both sides run in it
        head: of the merged model, where it has several
        steps: of a run at constant energy, 0.5 fs each, from 300 K

    Returns a row an engine: {"engine", "file", "verdict": passed, failed or not checked, "why",
    "structures", "energy" (eV/atom), "forces" (eV/Å), "stress" (eV/Å^3), largest differences,
    "drift" (meV/atom/ps), "bounds"}.
    """
    chosen = choose(structures)
    reference = Ase(merged, dtype, head)
    expected = [reference(atoms) for atoms in chosen]
    # all engines can run what is periodic in all directions or in none
    moving = warm(next((a for a in chosen if a.pbc.all() or not a.pbc.any()), chosen[0]))
    truth = slope(reference.run(moving, steps, TIMESTEP), len(moving))
    in_float32 = rounded(reference.calculator.models[0])
    # the numbers that hold total energies have only so many digits
    total = max(abs(x.energy) / len(a) for x, a in zip(expected, chosen, strict=True))
    rounding = 2 * torch.finfo(dtype).eps * total
    rows = []
    for name, path in files.items():
        engine, row = ENGINES[name], {"engine": name, "file": path.name}
        coarse = engine.own_couplings and in_float32 and dtype == torch.float64
        energy, force = ROUNDED if coarse else BOUNDS[dtype]
        bounds = {"energy": energy + rounding, "forces": force, "stress": force}
        bounds["drift"] = DRIFT + 1e6 * rounding / (steps * TIMESTEP)
        try:
            if absent := engine.missing():
                raise CannotError(f"{absent[0]} is not installed")
            if (held := dtype_of(path, engine.suffix)) != dtype:
                raise ValueError(f"the file holds {name_of(held)}, not {name_of(dtype)}")
            found = compare(engine(path, dtype), chosen, expected, moving, steps)
            over = [k for k, x in bounds.items() if not _within(found.get(k), x, k, truth)]
            why = f"{over[0]} over {bounds[over[0]]:.0e}" if over else ""
            row |= {"verdict": "failed" if over else "passed", "why": why, **found}
        except CannotError as reason:
            row |= {"verdict": "not checked", "why": str(reason)}
        except Exception as error:  # whatever an engine says of a broken file
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            row |= {"verdict": "failed", "why": why}
        rows.append(row | {"bounds": bounds})
    return rows


def compare(
    engine: Engine, structures: list[Atoms], expected: list[Any], moving: Atoms, steps: int
) -> dict[str, Any]:
    """Largest differences over the structures that the engine can run, and its drift."""
    differences: dict[str, list[float]] = {"energy": [], "forces": [], "stress": []}
    cannot = ""
    for atoms, truth in zip(structures, expected, strict=True):
        try:
            found = engine(atoms)
        except CannotError as reason:
            cannot = str(reason)
            continue
        differences["energy"].append(abs(found.energy - truth.energy) / len(atoms))
        differences["forces"].append(np.abs(found.forces - truth.forces).max())
        if found.stress is not None and truth.stress is not None:
            differences["stress"].append(np.abs(found.stress - truth.stress).max())
    if not differences["energy"]:
        raise CannotError(cannot)
    largest = {k: float(np.max(x)) if x else None for k, x in differences.items()}
    run = slope(engine.run(moving, steps, TIMESTEP), len(moving))
    return {"structures": len(differences["energy"]), **largest, "drift": run}


def _within(value: float | None, bound: float, key: str, truth: float) -> bool:
    """Whether a number keeps its bound; the drift is measured from ASE's, `truth`."""
    return value is None or abs(value - (truth if key == "drift" else 0.0)) <= bound


def choose(structures: list[Atoms]) -> list[Atoms]:
    """A few structures from all over the list, periodic ones first, wrapped into their cells."""
    found = [bare(atoms) for atoms in structures if len(atoms) > 1]
    found.sort(key=lambda atoms: -atoms.pbc.sum())
    few = found[:: max(1, len(found) // N_STRUCTURES)][:N_STRUCTURES]
    for atoms in few:
        atoms.wrap()  # a no-op where it is not periodic
    return few


def warm(atoms: Atoms) -> Atoms:
    """A copy with velocities of 300 K and no momentum."""
    moving = atoms.copy()
    MaxwellBoltzmannDistribution(moving, temperature_K=TEMPERATURE, rng=np.random.default_rng(0))
    Stationary(moving)
    return moving


def slope(energies: list[float], n_atoms: int) -> float:
    """Drift of a run in meV/atom/ps, without its start: OpenMM's velocities are half a step off."""
    per_atom = 1e3 * np.array(energies[1:]) / n_atoms
    return drift(np.arange(len(per_atom)) * EVERY * TIMESTEP / 1000, per_atom)["slope"]
