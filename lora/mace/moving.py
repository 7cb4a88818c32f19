"""Batches of structures that are asked for again and again, in which only atoms move.

In molecular dynamics a graph of MACE is made at each step, and of a small molecule that takes as
long as the model.  Here all but positions and neighbours is made once.

Several groups of structures, one for each of several models, become one batch of equal parts:
groups are filled up with atoms that have no neighbours, and edges with some that are longer than
the cutoff, where MACE's messages are zero.
"""

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from lora.data.structures import bare
from lora.mace.door import Untyped, upstream
from lora.mace.graphs import batches, graphs, near_origin

KEPT = 32  # batches whose still parts are kept


class Moving:
    """Make batches for one model, or for several of one kind.

    Attributes:
        model: A MACE model, whose cutoff, elements, heads and dtype the batches have.
    """

    def __init__(self, model: Untyped) -> None:
        """Keep what graphs depend on.

        Args:
            model: A MACE model.
        """
        self.model = model
        self.r_max = float(model.r_max)
        self._kept: OrderedDict[tuple[Hashable, ...], dict[str, Tensor]] = OrderedDict()

    def __call__(self, groups: list[list[Atoms]]) -> dict[str, Tensor]:
        """Return a batch of MACE, the structures of all groups one after the other.

        Args:
            groups: The structures of each group; of a group without any, the others' number of
                free atoms.
        """
        groups = self._filled(groups)
        structures = [atoms for group in groups for atoms in group]
        batch = dict(self._still(structures))
        places = batch["positions"]
        found = [self._edges(group) for group in groups]
        most = max(len(shifts) for _, shifts in found)
        n = len(places) // len(groups)
        full = [self._lengthened(*edges, most, n) for edges in found]
        positions = np.concatenate([atoms.positions for atoms in structures])
        index = np.concatenate([edges + i * n for i, (edges, _) in enumerate(full)], axis=1)
        shifts = np.concatenate([shift for _, shift in full])
        batch["positions"] = torch.as_tensor(positions).to(places)
        batch["edge_index"] = torch.as_tensor(index, dtype=torch.long).to(places.device)
        batch["shifts"] = torch.as_tensor(shifts).to(places)
        return batch

    def _filled(self, groups: list[list[Atoms]]) -> list[list[Atoms]]:
        """Return groups of equal numbers of structures and of atoms."""
        sizes = [(len(group), sum(map(len, group))) for group in groups]
        if len(set(sizes)) == 1:
            return groups
        most = max(n for n, _ in sizes) + 1
        n_atoms = max(atoms + most - n for n, atoms in sizes)
        free = int(self.model.atomic_numbers[0])
        out = []
        for group, (n, atoms) in zip(groups, sizes, strict=True):
            alone = [Atoms([free]) for _ in range(most - n - 1)]
            rest = n_atoms - atoms - len(alone)
            apart = 2 * self.r_max * np.arange(rest)[:, None] * [1, 0, 0]
            # a cell: around a long line of atoms in none, MACE's would be a huge cube
            cell = 2 * self.r_max * np.array([rest, 1, 1])
            out.append([*group, *alone, Atoms([free] * rest, apart, cell=cell, pbc=True)])
        return out

    def _still(self, structures: list[Atoms]) -> dict[str, Tensor]:
        """Return a batch of MACE without neighbours, whose positions are of another time."""
        key = tuple(_still_key(atoms) for atoms in structures)
        if key not in self._kept:
            made = graphs([bare(atoms) for atoms in structures], self.model)
            (batch,) = batches(made, len(structures), str(self.model.r_max.device))
            moving = ("edge_index", "shifts", "unit_shifts")
            self._kept[key] = {k: v for k, v in batch.to_dict().items() if k not in moving}
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _edges(self, group: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges of a group, sender and receiver [2, n] and shift [n, 3] (Å)."""
        neighbours = upstream("mace.data.neighborhood").get_neighborhood
        first, index, shifts = 0, [np.zeros((2, 0), dtype=int)], [np.zeros((0, 3))]
        for atoms in group:
            pbc = tuple(bool(x) for x in atoms.pbc)
            places = near_origin(atoms).positions
            found = neighbours(places, self.r_max, pbc, atoms.cell.array.copy())
            index.append(found[0] + first)
            shifts.append(found[1])
            first += len(atoms)
        return np.concatenate(index, axis=1), np.concatenate(shifts)

    def _lengthened(
        self, index: np.ndarray, shifts: np.ndarray, most: int, n_atoms: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return edges with as many more as are missing, from atoms to themselves far away."""
        missing = most - len(shifts)
        atoms = np.arange(missing) % n_atoms  # spread: rows of neighbours are padded in turn
        far = np.tile([2 * self.r_max + 10.0, 0.0, 0.0], (missing, 1))
        return np.concatenate([index, [atoms, atoms]], axis=1), np.concatenate([shifts, far])


def fills(model: Untyped) -> bool:
    """Return True for a model in which neighbours beyond the cutoff add nothing.

    In MACE's non-linear blocks biases stand behind the radial functions, so that a message is zero
    there only where the cutoff multiplies what the blocks give (`apply_cutoff` False).

    Args:
        model: A MACE model.
    """
    inside = bool(getattr(model.radial_embedding, "apply_cutoff", True))
    return not (inside and any("NonLinear" in type(x).__name__ for x in model.interactions))


def _still_key(atoms: Atoms) -> tuple[Hashable, ...]:
    """Return what a graph depends on beside positions and neighbours."""
    info = tuple(sorted((k, str(v)) for k, v in bare(atoms).info.items()))
    return atoms.numbers.tobytes(), atoms.cell.array.tobytes(), atoms.pbc.tobytes(), info
