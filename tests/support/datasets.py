"""Datasets as users have them, labelled by a model: random right ones, and ways to spoil one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import nn

from lora.data.labels import CHARGE, SPIN
from lora.data.structures import ENERGY, FORCES, STRESS, type_of
from lora.mace.foundation import load_foundation
from lora.mace.labelling import label

QUICKSTART = Path(__file__).parents[2] / "workflow/resources/quickstart"
BASE = QUICKSTART / "base.model"  # H C N O
MOLECULES = ("H2O", "CH4", "NH3", "CO2", "CH3OH", "HCOOH", "CH3CHO", "C6H6", "CH3NO2", "C2H6", "N2")


@cache
def base() -> nn.Module:
    """The quickstart's foundation model in float64."""
    return load_foundation(BASE, None, torch.float64)


def another_theory(seed: int, size: float) -> nn.Module:
    """A copy of the base with noise of a relative size on all weights, and other E0s."""
    model = load_foundation(BASE, None, torch.float64)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.from_numpy(rng.normal(size=tuple(parameter.shape)))
            parameter.add_(size * parameter.std(correction=0) * noise)
        e0s = model.atomic_energies_fn.atomic_energies
        e0s.add_(torch.from_numpy(rng.normal(scale=300, size=tuple(e0s.shape))))
    return model


def labelled(structures: list[Atoms], model: nn.Module | None = None) -> list[Atoms]:
    """Copies with a model's labels; stresses of crystals and slabs."""
    out = label(structures, model or base())
    for atoms, before in zip(out, structures, strict=True):
        atoms.info["config_type"] = type_of(before)
    return out


def molecules(rng: np.random.Generator, n: int, names: list[str], size: float) -> list[Atoms]:
    """Distorted molecules."""
    out = []
    for name in rng.choice(names, n):
        atoms = molecule(str(name))
        atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
        out.append(atoms)
    return out


def crystals(rng: np.random.Generator, n: int, size: float) -> list[Atoms]:
    """Strained and distorted diamond, and boxes with a molecule."""
    out = []
    for _ in range(n):
        if rng.random() < 0.7:
            atoms = bulk("C", "diamond", a=3.57, cubic=bool(rng.random() < 0.5))
        else:
            atoms = molecule("CH3OH", vacuum=rng.uniform(1.2, 2.5))
            atoms.pbc = True
        strain = np.eye(3) + rng.normal(scale=0.4 * size, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
        out.append(atoms)
    return out


def slabs(rng: np.random.Generator, n: int, size: float) -> list[Atoms]:
    """Distorted slabs, periodic in two directions."""
    out = []
    for _ in range(n):
        atoms = bulk("C", "diamond", a=3.57, cubic=True) * (1, 1, int(rng.integers(1, 3)))
        atoms.center(vacuum=6.0, axis=2)
        atoms.pbc = (True, True, False)
        atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
        out.append(atoms)
    return out


def charged(rng: np.random.Generator, n: int, size: float) -> list[Atoms]:
    """Distorted molecules of several charges and spins."""
    out = molecules(rng, n, ["H2O", "CH3OH", "NH3", "HCOOH"], size)
    for atoms in out:
        atoms.info |= {CHARGE: int(rng.integers(-2, 3)), SPIN: int(rng.integers(1, 4))}
    return out


def random_dataset(seed: int) -> list[Atoms]:
    """Structures of a random right dataset, without labels: of any kind, size and distortion."""
    rng = np.random.default_rng(seed)
    n, size = int(rng.integers(1, 16)), float(rng.choice([0.0, 0.01, 0.05, 0.15]))
    names = list(rng.choice(MOLECULES, int(rng.integers(1, 5)), replace=False))
    kinds: list[Callable[[], list[Atoms]]] = [
        lambda: molecules(rng, n, names, size),
        lambda: crystals(rng, n, size),
        lambda: slabs(rng, max(1, n // 3), size),
        lambda: [*molecules(rng, n, names, size), *crystals(rng, n, size)],
    ]
    out = kinds[seed % len(kinds)]()
    if rng.random() < 0.3:  # the same frame again, as restarts leave it
        out.append(out[0].copy())
    if rng.random() < 0.3:  # pressed together
        out[-1].set_cell(out[-1].cell.array * 0.9, scale_atoms=False)
        out[-1].positions *= 0.9
    for i, atoms in enumerate(out):
        atoms.info["config_type"] = ["Default", "MD"][i % 2] if seed % 3 else "Default"
    return out


# --- ways to spoil labels


def scaled(structures: list[Atoms], quantity: str, factor: float) -> list[Atoms]:
    """Copies with the labels of a kind times a factor."""
    out = [atoms.copy() for atoms in structures]
    for atoms in out:
        if quantity == "forces":
            atoms.arrays[FORCES] = factor * atoms.arrays[FORCES]
        elif (key := {"energy": ENERGY, "stress": STRESS}[quantity]) in atoms.info:
            atoms.info[key] = factor * atoms.info[key]
    return out
