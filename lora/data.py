"""Structures to MACE's graphs, and batched predictions.

With `foundation.py`, `elements.py`, `kernels.py`, `convolution.py`, `fold.py` and the layers this
is all that knows MACE's insides.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from lora._upstream import default_dtype, upstream
from lora.config import UserError
from lora.structures import ENERGY, FORCES, STRESS

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
    """MACE's graph of each structure, with neighbour list and labels, in the model's dtype."""
    data = upstream("mace.data")
    tools = upstream("mace.tools")
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, "stress": STRESS}, arrays_keys={"forces": FORCES}
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
    """MACE's batches, without the first `skip`.

    `shuffle` is the seed of the order, None keeps the order of the data.  `share` (i, n) takes
    every n-th structure of a batch from the i-th on; batches of fewer than n are not shared out.
    """
    order = np.arange(len(dataset))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(dataset))
    batch_of = upstream("mace.tools.torch_geometric").Batch.from_data_list
    for start in range(skip * batch_size, len(order), batch_size):
        chosen = order[start : start + batch_size]
        own = chosen[share[0] :: share[1]] if len(chosen) >= share[1] else chosen
        yield batch_of([dataset[i] for i in own]).to(device)


def predict(
    model: nn.Module, dataset: Sequence[Any], batch_size: int = 32, stress: bool = False
) -> dict[str, np.ndarray]:
    """Energies [n], forces [n_atoms of all, 3] and, if asked, stresses [n, 3, 3].

    Units: eV, eV/Å, eV/Å^3.  Also "seconds", the wall time of all batches.
    """
    kept: dict[str, list[Tensor]] = {"energy": [], "forces": []} | (
        {"stress": []} if stress else {}
    )
    started = time.perf_counter()
    with frozen(model):
        for batch in batches(dataset, batch_size, device_of(model)):
            out = model(batch.to_dict(), training=False, compute_stress=stress)
            for key, values in kept.items():
                values.append(out[key].detach().cpu())
    result = {key: torch.cat(values).numpy() for key, values in kept.items()}
    return result | {"seconds": np.array(time.perf_counter() - started)}


def on_cluster(model: nn.Module, numbers: list[int]) -> dict[str, Tensor]:
    """Interaction energy [1] and forces [n, 3] on a small made-up cluster of some elements."""
    chosen = [numbers[i % len(numbers)] for i in range(6)]
    spread = 0.45 * float(model.r_max) * np.random.default_rng(0).uniform(-1, 1, size=(6, 3))
    batch = next(batches(graphs([Atoms(chosen, positions=spread)], model), 1, device_of(model)))
    with frozen(model):
        out = model(batch.to_dict(), training=False)
    return {"energies": out["interaction_energy"].detach(), "forces": out["forces"].detach()}


def device_of(model: nn.Module) -> str:
    """Where the model lies."""
    return str(next(model.parameters()).device)


class frozen:
    """Context in which no parameter asks for a gradient: forces need only those of positions."""

    def __init__(self, model: nn.Module) -> None:
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(True)


def reference(structures: list[Atoms]) -> dict[str, np.ndarray]:
    """The labels: energy [n] (eV), forces [n_atoms of all, 3] (eV/Å), n_atoms [n]."""
    return {
        "energy": np.array([atoms.info[ENERGY] for atoms in structures]),
        "forces": np.concatenate([atoms.arrays[FORCES] for atoms in structures]),
        "n_atoms": np.array([len(atoms) for atoms in structures]),
    }


def has_stress(structures: list[Atoms]) -> bool:
    """Whether every structure has a stress label."""
    return all(STRESS in atoms.info for atoms in structures)


def check_device(device: str) -> None:
    """Raises UserError if torch has no such device here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"device: {device} is not there ({why}); this machine has {torch.cuda.device_count()} "
            "GPUs that torch can use"
        ) from None


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads (None: torch's choice), and TorchScript without its profiler.

    Profiling and fusing compile again for every new shape of a batch: through the first epochs
    that costs more than it ever saves, and the last digits of a model's first calls would differ
    from those of its later ones, so that a resumed training would not equal an undisturbed one.
    """
    if threads:
        torch.set_num_threads(threads)
    torch._C._jit_set_texpr_fuser_enabled(False)
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
