"""Structures to MACE's graphs, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from torch import nn

from lora.data.structures import ENERGY, FORCES, STRESS
from lora.mace.door import default_dtype, upstream
from lora.mace.modules import cutoff_of

HELD = 10_000  # structures whose graphs are all made at once and held; of more, none is


class Graphs(Sequence[Any]):
    """Graphs that are made each time they are asked for.

    A graph takes ten times the memory of its structure and a millisecond to make.
    """

    def __init__(self, n: int, make: Callable[[int], Any]) -> None:
        self.n, self.make = n, make

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self.make(j) for j in range(*i.indices(self.n))]
        return self.make(i)


def graphs(structures: list[Atoms], model: nn.Module) -> Sequence[Any]:
    """Return MACE's graph of each structure, with neighbour list and labels.

    Args:
        structures: Structures, with labels under our keys (eV, eV/Å, eV/Å^3) or without.
        model: The model, whose elements, heads, cutoff and dtype the graphs are made for.

    Returns:
        As many graphs as structures; of more than `HELD`, each is made whenever it is asked for.
    """
    data = upstream("mace.data")
    tools = upstream("mace.tools")
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, "stress": STRESS}, arrays_keys={"forces": FORCES}
    )
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    heads = list(getattr(model, "heads", None) or ["Default"])
    r_max, dtype = float(cutoff_of(model)), cutoff_of(model).dtype

    def make(i: int) -> Any:
        head = structures[i].info.get("head")
        config = data.config_from_atoms(
            structures[i], key_specification=keys, head_name=head if head in heads else heads[0]
        )
        with default_dtype(dtype):
            return data.AtomicData.from_config(config, z_table=table, cutoff=r_max, heads=heads)

    made = Graphs(len(structures), make)
    return made[:] if len(made) <= HELD else made


def batches(
    dataset: Sequence[Any],
    batch_size: int,
    device: str = "cpu",
    shuffle: int | None = None,
    skip: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Any]:
    """Yield MACE's batches of some graphs.

    Args:
        dataset: The graphs.
        batch_size: The number of graphs a batch; the last one may have fewer.
        device: Where the batches go: cpu, cuda or cuda:N.
        shuffle: The seed of the order; None keeps the order of the data.
        skip: The number of batches that are left out at the start.
        share: (i, n) takes every n-th graph of a batch from the i-th on; batches of fewer than n
            are not shared out.
    """
    order = np.arange(len(dataset))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(dataset))
    batch_of = upstream("mace.tools.torch_geometric").Batch.from_data_list
    for start in range(skip * batch_size, len(order), batch_size):
        chosen = order[start : start + batch_size]
        own = chosen[share[0] :: share[1]] if len(chosen) >= share[1] else chosen
        yield batch_of([dataset[i] for i in own]).to(device)
