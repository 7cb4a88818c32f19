"""Structures labelled by a model."""

import numpy as np
import torch
from ase import Atoms

from lora.data.structures import ENERGY, FORCES, STRESS, bare
from lora.mace.graphs import graphs
from lora.mace.predict import predict


def label(structures: list[Atoms], model: torch.nn.Module) -> list[Atoms]:
    """Return copies with the model's energies, forces and, where periodic, stresses as labels.

    Args:
        structures: Structures of elements that the model knows.
        model: The model.
    """
    periodic = all(atoms.pbc.all() for atoms in structures)
    plain = [bare(atoms) for atoms in structures]
    out = predict(model, graphs(plain, model), stress=periodic)
    ends = np.cumsum([len(atoms) for atoms in plain])[:-1]
    for i, (atoms, forces) in enumerate(zip(plain, np.split(out["forces"], ends), strict=True)):
        atoms.info[ENERGY], atoms.arrays[FORCES] = float(out["energy"][i]), forces
        if periodic:
            atoms.info[STRESS] = out["stress"][i].reshape(9)
    return plain
