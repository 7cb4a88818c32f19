"""Several adapters of one base as one ASE calculator: their mean, and their spread.

The members run as a pack: one pass of the model over one graph with a copy for each.  Whether the
spread says anything about the error is a question to the test set; the sweep's report answers it.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from lora.adapters.inject import take_adapters
from lora.adapters.pack import Pack
from lora.adapters.saved import holds_weights, load_adapter, read_card
from lora.data.labels import has_volume
from lora.data.structures import bare
from lora.errors import UserError
from lora.mace.calculator import with_both_names
from lora.mace.elements import check_elements, get_e0s, set_e0s
from lora.mace.foundation import load_foundation
from lora.mace.graphs import batches, graphs
from lora.mace.predict import frozen


class Committee(Calculator):
    """ASE calculator of K adapters over one foundation model.

    `results` has the mean `energy` (eV), `forces` [n_atoms, 3] (eV/Å) and `stress` [6] (eV/Å^3);
    of each member `energies` [K] and `forces_members` [K, n_atoms, 3]; and the spread, the
    standard deviation over members: `energy_spread` (eV) and `forces_spread` [n_atoms] (eV/Å),
    the root of the sum over components.

    Args:
        foundation, head: as for `lora.load_foundation`
        adapters: folders of at least two LoRA adapters that were trained on it, with the same E0s
        device: cpu or cuda

    Raises UserError: fewer than two, an adapter of another base, with other E0s or layers.
    """

    implemented_properties = cast(  # read only
        list[str], ("energy", "free_energy", "forces", "stress")
    )

    def __init__(
        self,
        foundation: str | Path,
        adapters: list[str | Path],
        head: str | None = None,
        device: str = "cpu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(adapters) < 2:
            raise UserError("committee: give at least two adapters; one has no spread")
        dtype = read_card(adapters[0])["dtype"]
        model = load_foundation(foundation, head, getattr(torch, dtype))
        layers, e0s, base_e0s = [], None, get_e0s(model)
        for folder in adapters:
            if holds_weights(read_card(folder)):
                raise UserError(f"{folder}: holds whole weights; a committee shares one base")
            if read_card(folder)["targets"].get("modules_to_save"):
                raise UserError(f"{folder}: holds whole modules; a committee shares one base")
            set_e0s(model, base_e0s)  # not those of the adapter before
            load_adapter(model, folder)
            layers.append(take_adapters(model))
            own = get_e0s(model)
            if e0s is not None and own != e0s:
                raise UserError(f"{folder}: has other E0s than {adapters[0]}")
            e0s = own
        self.model, self.device = model, device
        self.pack = Pack(model, layers).to(device)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` for a structure; stress only where it is periodic and has a volume."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        periodic = has_volume(self.atoms)
        plain = bare(with_both_names(self.atoms))
        check_elements(self.model, [plain], "committee")
        batch = next(batches(graphs([plain], self.model), 1, self.device))
        with frozen(self.pack):
            outs = self.pack(batch.to_dict(), training=False, compute_stress=periodic)

        def members(key: str) -> np.ndarray:
            return np.stack([out[key].detach().cpu().numpy() for out in outs])

        energies, forces = members("energy")[:, 0], members("forces")  # [K], [K, n_atoms, 3]
        self.results = {
            "energy": float(energies.mean()),
            "free_energy": float(energies.mean()),
            "forces": forces.mean(axis=0),
            "energies": energies,
            "forces_members": forces,
            "energy_spread": float(energies.std(ddof=1)),
            "forces_spread": np.sqrt(forces.var(axis=0, ddof=1).sum(axis=-1)),
        }
        if periodic:
            self.results["stress"] = full_3x3_to_voigt_6_stress(members("stress").mean(axis=0)[0])
