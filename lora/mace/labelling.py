"""Structures labelled by a model."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from lora.data.labels import has_volume
from lora.data.structures import ENERGY, FORCES, STRESS, bare
from lora.mace.graphs import graphs
from lora.mace.predict import predict


def label(structures: Sequence[Atoms], model: torch.nn.Module, batch_size: int = 32) -> list[Atoms]:
    """Return copies with the model's energies, forces and stresses as labels.

    A stress has what is periodic and has a volume.

    Args:
        structures: Structures of elements that the model knows.
        model: The model.
        batch_size: The number of structures in a batch.
    """
    plain = [bare(atoms) for atoms in structures]
    stress = any(map(has_volume, plain))
    out = predict(model, graphs(plain, model), batch_size, stress)
    ends = np.cumsum([len(atoms) for atoms in plain])[:-1]
    for i, (atoms, forces) in enumerate(zip(plain, np.split(out["forces"], ends), strict=True)):
        atoms.info[ENERGY], atoms.arrays[FORCES] = float(out["energy"][i]), forces
        if has_volume(atoms):
            atoms.info[STRESS] = out["stress"][i].reshape(9)
    return plain
