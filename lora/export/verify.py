"""Compare an export with the merged model, in every engine that is installed."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

from lora.catalogue.engines import BY_NAME
from lora.catalogue.engines import Engine as Row
from lora.catalogue.named import resolve
from lora.data.statistics import drift
from lora.data.structures import bare
from lora.export.engines.ase import Ase
from lora.export.engines.base import EVERY, Answer, CannotError, Engine, name_of
from lora.files.terminal import Meter
from lora.mace.elements import check_elements
from lora.mace.graphs import near_origin
from lora.mace.kernels import rounded
from lora.mace.processes import side_by_side

N_STRUCTURES = 5
REPEATED = 2  # cells of one atom, along each periodic axis
STIRRED = 0.05  # Å, the standard deviation of their displacements
# eV/atom; eV/Å and eV/Å^3
BOUNDS = {torch.float64: (1e-10, 1e-9), torch.float32: (1e-6, 1e-5)}
ROUNDED = (1e-7, 1e-6)  # couplings in float32 against cuEquivariance's own, in float64
DRIFT = 1.0  # meV/atom/ps, of the difference to ASE's
TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K


@dataclass(frozen=True)
class Proof:
    """What exported files are compared on.

    Attributes:
        merged: The .model file that the export was made from.
        structures: Structures, of which a few are taken.
        dtype: The precision that the export should have; both sides run in it.
        head: The head of the merged model, where it has several.
        steps: The number of MD steps at constant energy (0.5 fs each, from 300 K).
    """

    merged: Path
    structures: Sequence[Atoms]
    dtype: torch.dtype
    head: str | None = None
    steps: int = 100


@dataclass(frozen=True)
class Reference:
    """What MACE's calculator on the merged model gives.

    Attributes:
        structures: The structures that are compared.
        answers: Energy, forces and stress of each.
        moving: The structure that runs at constant energy, with velocities.
        slope: The drift of that run (meV/atom/ps).
        in_float32: Whether the couplings of the model are rounded to float32.
        rounding: The precision of the energies (eV/atom); large totals have fewer digits.
    """

    structures: Sequence[Atoms]
    answers: list[Answer]
    moving: Atoms
    slope: float
    in_float32: bool
    rounding: float


def driver_of(name: str) -> type[Engine]:
    """Return the class that runs an engine's files.

    Args:
        name: A name of `lora.catalogue.engines`.
    """
    found: type[Engine] = resolve(BY_NAME[name].driver)
    return found


def missing(row: Row) -> list[str]:
    """Return the modules of an engine that are not installed.

    Args:
        row: The row of the engine.
    """
    return [name for name in row.modules if find_spec(name) is None]


def verify(files: dict[str, Path], proof: Proof, processes: int = 1) -> list[dict[str, Any]]:
    """Run structures through each engine and compare with the merged model in ASE.

    Args:
        files: {engine: its exported file}.
        proof: What to compare on.
        processes: How many engines run at once.

    Returns:
        A row for each engine: {"engine", "file", "verdict": passed, failed or not checked, "why",
        "structures", "energy" (eV/atom), "forces" (eV/Å), "stress" (eV/Å^3), the largest
        differences, "drift" (meV/atom/ps), "bounds"}.
    """
    reference = _refer(proof)
    meter, done = Meter("export"), multiprocessing.Value("i")

    def row_of(name: str) -> dict[str, Any]:
        row = _row(name, files[name], proof, reference)
        with done.get_lock():
            done.value += 1
            meter.at("compared", done.value, len(files), "engines")
        return row

    return side_by_side(row_of, list(files), processes)


def _refer(proof: Proof) -> Reference:
    """Run the merged model in ASE."""
    chosen = choose(proof.structures)
    engine = Ase(proof.merged, proof.dtype, proof.head)
    check_elements(engine.model, chosen, "structures_file")
    answers = [engine(atoms) for atoms in chosen]
    # all engines can run what is periodic in all directions or in none
    moving = warm(next((a for a in chosen if a.pbc.all() or not a.pbc.any()), chosen[0]))
    total = max(abs(x.energy) / len(a) for x, a in zip(answers, chosen, strict=True))
    return Reference(
        structures=chosen,
        answers=answers,
        moving=moving,
        slope=slope(engine.run(moving, proof.steps, TIMESTEP), len(moving)),
        in_float32=rounded(engine.model),
        rounding=2 * torch.finfo(proof.dtype).eps * total,
    )


def _row(name: str, path: Path, proof: Proof, reference: Reference) -> dict[str, Any]:
    """Return the verdict on the file of one engine."""
    row: dict[str, Any] = {"engine": name, "file": path.name}
    driver, dtype = driver_of(name), proof.dtype
    coarse = driver.own_couplings and reference.in_float32 and dtype == torch.float64
    energy, force = ROUNDED if coarse else BOUNDS[dtype]
    bounds = {"energy": energy + reference.rounding, "forces": force, "stress": force}
    bounds["drift"] = DRIFT + 1e6 * reference.rounding / (proof.steps * TIMESTEP)
    try:
        if absent := missing(BY_NAME[name]):
            raise CannotError(f"{absent[0]} is not installed")
        if (held := driver.dtype_of(path)) != dtype:
            raise ValueError(f"the file holds {name_of(held)}, not {name_of(dtype)}")
        found = _compare(driver(path, dtype), reference, proof.steps)
        over = [k for k, x in bounds.items() if not _within(found.get(k), x, k, reference.slope)]
        why = f"{over[0]} over {bounds[over[0]]:.0e}" if over else ""
        row |= {"verdict": "failed" if over else "passed", "why": why, **found}
    except CannotError as reason:
        row |= {"verdict": "not checked", "why": str(reason)}
    except Exception as error:  # engines raise anything for a broken file
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        row |= {"verdict": "failed", "why": why}
    return row | {"bounds": bounds}


def _compare(engine: Engine, reference: Reference, steps: int) -> dict[str, Any]:
    """Return the largest differences over the structures that an engine can run, and its drift."""
    differences: dict[str, list[float]] = {"energy": [], "forces": [], "stress": []}
    cannot = ""
    for atoms, truth in zip(reference.structures, reference.answers, strict=True):
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
    run = slope(engine.run(reference.moving, steps, TIMESTEP), len(reference.moving))
    return {"structures": len(differences["energy"]), **largest, "drift": run}


def _within(value: float | None, bound: float, key: str, truth: float) -> bool:
    """Return True if a number keeps its bound; the drift is measured from ASE's, `truth`."""
    return value is None or abs(value - (truth if key == "drift" else 0.0)) <= bound


def choose(structures: Sequence[Atoms]) -> list[Atoms]:
    """Return a few structures from all over a list, periodic ones first, wrapped into their cells.

    Args:
        structures: The structures; free atoms are left out, and a cell of one atom is repeated,
            with its atoms moved a little, so that there are forces.
    """
    found = [near_origin(several(bare(x))) for x in structures if not is_free(x)]
    found.sort(key=lambda atoms: -atoms.pbc.sum())
    few = found[:: max(1, len(found) // N_STRUCTURES)][:N_STRUCTURES]
    for atoms in few:
        atoms.wrap()  # does nothing where it is not periodic
    return few


def is_free(atoms: Atoms) -> bool:
    """Return True for a free atom; the only atom of a periodic cell is none.

    Args:
        atoms: The structure.
    """
    return len(atoms) == 1 and not atoms.pbc.any()


def several(atoms: Atoms) -> Atoms:
    """Return a structure, or of a periodic cell of one atom a supercell off its minimum.

    Args:
        atoms: The structure.
    """
    if len(atoms) > 1:
        return atoms
    found: Atoms = atoms.repeat([REPEATED if periodic else 1 for periodic in atoms.pbc])
    found.rattle(STIRRED, seed=0)
    return found


def warm(atoms: Atoms) -> Atoms:
    """Return a copy with velocities of 300 K and no momentum.

    Args:
        atoms: The structure.
    """
    moving = atoms.copy()
    MaxwellBoltzmannDistribution(moving, temperature_K=TEMPERATURE, rng=np.random.default_rng(0))
    Stationary(moving)
    return moving


def slope(energies: list[float], n_atoms: int) -> float:
    """Return the drift of a run (meV/atom/ps).

    Args:
        energies: Total energies (eV), every `EVERY` steps.
        n_atoms: The number of atoms.
    """
    per_atom = 1e3 * np.array(energies) / n_atoms
    return drift(np.arange(len(per_atom)) * EVERY * TIMESTEP / 1000, per_atom)["slope"]
