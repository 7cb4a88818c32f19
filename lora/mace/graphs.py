"""Structures to MACE's graphs, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms

from lora.data.held import HELD
from lora.data.labels import (
    CHARGE,
    ENERGY,
    FORCES,
    OTHER,
    QUANTITIES,
    SPIN,
    has_volume,
    label,
    own_weight,
)
from lora.mace.conditions import check_conditions
from lora.mace.door import Untyped, default_dtype, upstream

HEAD = "lora_head"  # the key of a structure for another head than the first; no file has it
FAR = 50.0  # Å


class Graphs(Sequence[Any]):
    """Graphs that are made each time they are asked for.

    A graph takes ten times the memory of its structure and a millisecond to make.
    """

    def __init__(self, n: int, make: Callable[[int], Any]) -> None:
        """Keep how graphs are made.

        Args:
            n: The number of graphs.
            make: A function that returns the graph of an index.
        """
        self.n, self.make = n, make

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self.make(j) for j in range(*i.indices(self.n))]
        return self.make(i)


def graphs(structures: Sequence[Atoms], model: Untyped) -> Sequence[Any]:
    """Return MACE's graph of each structure, with neighbours and labels.

    A missing label has weight 0.  Stress and virials come from each other (`lora.data.labels`).

    Args:
        structures: Structures of elements that the model knows; labels where they have them.
        model: A MACE model, whose cutoff, elements, heads and dtype the graphs have.

    Raises:
        UserError: A structure has a charge or spin for which the model has no class.
    """
    check_conditions(model, structures)
    data = upstream("mace.data")
    tools = upstream("mace.tools")
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, "total_charge": CHARGE, "total_spin": SPIN},
        arrays_keys={"forces": FORCES},
    )
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    heads = list(getattr(model, "heads", None) or ["Default"])
    r_max, dtype = float(model.r_max), model.r_max.dtype

    def make(i: int) -> Any:
        atoms = near_origin(structures[i])
        head = atoms.info.get(HEAD)
        config = data.config_from_atoms(
            atoms, key_specification=keys, head_name=head if head in heads else heads[0]
        )
        config.properties |= {x: label(atoms, x) for x in OTHER}
        config.property_weights |= {x: own_weight(atoms, x) for x in QUANTITIES}
        with default_dtype(dtype):
            made = data.AtomicData.from_config(config, z_table=table, cutoff=r_max, heads=heads)
        return _with_true_cell(made, atoms)

    made = Graphs(len(structures), make)
    return made[:] if len(made) <= HELD else made


def near_origin(atoms: Atoms) -> Atoms:
    """Return a structure without a cell around the origin, where it is `FAR` from there.

    MACE looks for neighbours on a grid that reaches from the origin to the farthest atom, five
    cutoffs wide for each Å: at 300 Å it takes 8 GB.

    Args:
        atoms: The structure, which stays as it is.
    """
    if atoms.pbc.any() or np.abs(atoms.positions).max() <= FAR:
        return atoms
    moved: Atoms = atoms.copy()
    ends = atoms.positions.min(axis=0), atoms.positions.max(axis=0)
    moved.positions -= (ends[0] + ends[1]) / 2
    return moved


def _with_true_cell(graph: Any, atoms: Atoms) -> Any:
    """Return a graph with the cell of its structure along directions that are not periodic, too.

    MACE puts a long vector of its own there, and divides the stress by a volume that no cell has.
    """
    if has_volume(atoms) and not atoms.pbc.all():
        cell = torch.as_tensor(atoms.cell.array, dtype=graph.cell.dtype)
        graph.cell, graph.volume = cell, torch.linalg.det(cell)
        graph.rcell = 2 * torch.pi * torch.linalg.inv(cell.mT)
    return graph


def in_epoch(n: int, batch_size: int, drop_last: bool) -> int:
    """Return how many of n structures an epoch goes through.

    Args:
        n: The number of structures.
        batch_size: The number of structures in a batch.
        drop_last: Whether the last batch is left out where it is not full and not the only one.
    """
    return n - n % batch_size if drop_last and n > batch_size else n


def batches(
    dataset: Sequence[Any],
    batch_size: int,
    device: str = "cpu",
    shuffle: int | None = None,
    skip: int = 0,
    share: tuple[int, int] = (0, 1),
    drop_last: bool = False,
) -> Iterator[Any]:
    """Return MACE's batches.

    Args:
        dataset: What `graphs` returned.
        batch_size: The number of structures in a batch.
        device: The device of the batches.
        shuffle: The seed of the order; None keeps the order of the data.
        skip: The number of batches to leave out at the start.
        share: (i, n) takes every n-th structure of a batch from the i-th on, for one of n
            processes; batches of fewer than n structures are not shared out.
        drop_last: Whether to leave out the last batch where it is not full, unless it is the only
            one.
    """
    order = np.arange(len(dataset))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(dataset))
    batch_of = upstream("mace.tools.torch_geometric").Batch.from_data_list
    order = order[: in_epoch(len(order), batch_size, drop_last)]
    for start in range(skip * batch_size, len(order), batch_size):
        chosen = order[start : start + batch_size]
        own = chosen[share[0] :: share[1]] if len(chosen) >= share[1] else chosen
        yield batch_of([dataset[i] for i in own]).to(device)
