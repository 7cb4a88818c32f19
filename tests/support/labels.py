"""Structures with labels of every kind, of which some are missing."""

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lora.data.labels import CHARGE, ENERGY, FORCES, SPIN, STRESS, VIRIALS
from lora.mace.door import upstream
from tests.support.models import BASE, make_model

SPECS = {
    CHARGE: {"type": "categorical", "per": "graph", "num_classes": 5, "emb_dim": 4, "offset": 2},
    SPIN: {"type": "categorical", "per": "graph", "num_classes": 4, "emb_dim": 4},
}


def mixed(n: int = 12, seed: int = 0) -> list[Atoms]:
    """Molecules and crystals in turn, rattled; the crystals with stress and virials."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        atoms = molecule("CH3CHO") if i % 2 else bulk("C", "diamond", a=3.6) * (2, 1, 1)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.info = {ENERGY: -8.0 * len(atoms) + rng.normal()}
        atoms.arrays[FORCES] = rng.normal(size=(len(atoms), 3))
        if atoms.pbc.all():
            stress = rng.normal(scale=0.01, size=(3, 3))
            atoms.info[STRESS] = (stress + stress.T).reshape(9)
            atoms.info[VIRIALS] = -atoms.cell.volume * atoms.info[STRESS]
        out.append(atoms)
    return out


def with_holes(structures: list[Atoms]) -> list[Atoms]:
    """Take the energy from every third structure, the forces from every fourth, some stresses."""
    for i, atoms in enumerate(structures):
        if i % 3 == 1:
            del atoms.info[ENERGY]
        if i % 4 == 2:
            del atoms.arrays[FORCES]
        if i % 5 == 4:
            atoms.info.pop(STRESS, None)
            atoms.info.pop(VIRIALS, None)
    return structures


def charge_aware() -> torch.nn.Module:
    """A model with embeddings of total charge and spin, of random weights."""
    plain = make_model(BASE)
    with torch.no_grad():
        torch.manual_seed(5)
        config = upstream("mace.tools.scripts_utils").extract_config_mace_model(plain)
        torch.set_default_dtype(torch.float64)
        try:
            made = type(plain)(**(config | {"embedding_specs": SPECS}))
        finally:
            torch.set_default_dtype(torch.float32)
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made.eval()
