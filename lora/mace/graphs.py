"""Structures to MACE's graphs, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from lora.data.structures import ENERGY, FORCES, STRESS
from lora.mace.door import Untyped, default_dtype, upstream

CHARGE_AND_SPIN = {"total_charge": "total_charge", "total_spin": "total_spin"}
HELD = 10_000  # structures whose graphs are all made at once and held; of more, none is


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


def graphs(structures: list[Atoms], model: Untyped) -> Sequence[Any]:
    """Return MACE's graph of each structure, with neighbours and labels.

    Args:
        structures: Structures of elements that the model knows; labels where they have them.
        model: A MACE model, whose cutoff, elements, heads and dtype the graphs have.
    """
    data = upstream("mace.data")
    tools = upstream("mace.tools")
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, "stress": STRESS, **CHARGE_AND_SPIN},
        arrays_keys={"forces": FORCES},
    )
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    heads = list(getattr(model, "heads", None) or ["Default"])
    r_max, dtype = float(model.r_max), model.r_max.dtype

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
    """Return MACE's batches.

    Args:
        dataset: What `graphs` returned.
        batch_size: The number of structures in a batch.
        device: The device of the batches.
        shuffle: The seed of the order; None keeps the order of the data.
        skip: The number of batches to leave out at the start.
        share: (i, n) takes every n-th structure of a batch from the i-th on, for one of n
            processes; batches of fewer than n structures are not shared out.
    """
    order = np.arange(len(dataset))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(dataset))
    batch_of = upstream("mace.tools.torch_geometric").Batch.from_data_list
    for start in range(skip * batch_size, len(order), batch_size):
        chosen = order[start : start + batch_size]
        own = chosen[share[0] :: share[1]] if len(chosen) >= share[1] else chosen
        yield batch_of([dataset[i] for i in own]).to(device)
