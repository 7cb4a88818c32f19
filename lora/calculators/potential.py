"""A merged model as a function of structures: many at once, or one by one as an ASE calculator."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from lora.data.structures import bare
from lora.mace.door import Untyped
from lora.mace.elements import check_elements, elements, get_e0s, trim_elements
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict


class Potential:
    """Energies (eV) and forces (eV/Å) of structures, always in float64.

    Args:
        model_file: a .model file with one head
        numbers: atomic numbers that will occur; the model is trimmed to them
        batch_size: structures that go through the model together

    Attributes: r_max (Å), depth (number of layers), e0s {symbol: eV}.
    """

    def __init__(
        self,
        model_file: str | Path,
        numbers: Sequence[int],
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        model: Untyped = load_foundation(model_file, dtype=torch.float64).to(device)
        check_elements(model, [Atoms(numbers)], model_file)
        model = trim_elements(model, sorted(set(numbers)))
        self.r_max, self.depth = float(model.r_max), int(model.num_interactions)
        self.e0s = get_e0s(model)
        self.elements = elements(model)
        fuse(model)
        fold(model)
        self.model, self.batch_size = model, batch_size

    def __call__(self, structures: list[Atoms]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Energies [n] (eV) and forces, [n_atoms, 3] of each structure (eV/Å)."""
        out = predict(self.model, graphs(structures, self.model), self.batch_size)
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        return out["energy"], np.split(out["forces"], ends)


class Single(Calculator):
    """A potential as an ASE calculator, for ASE's dynamics."""

    implemented_properties = cast(list[str], ("energy", "forces"))  # read only

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` for a structure: energy (eV) and forces [n_atoms, 3] (eV/Å).

        Args:
            atoms: The structure.
            properties: What ASE asks for; both are always computed.
            system_changes: What has changed since the last call, for ASE.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        energies, forces = self.potential([bare(self.atoms)])
        self.results = {"energy": float(energies[0]), "forces": forces[0]}
