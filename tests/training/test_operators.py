"""How many operators a step has: each is a launch on a GPU, and small steps wait for them."""

from collections import Counter
from typing import Any

import pytest
from ase.build import molecule
from torch.utils._python_dispatch import TorchDispatchMode

from lora.data.structures import ENERGY, FORCES
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse
from lora.mace.graphs import batches, graphs
from lora.training.loop import Fit
from tests.support.models import Case, make_model
from tests.support.packs import packed

# two layers, l to 3, correlation 3, as the foundation models; channels make no difference
AS_PUBLISHED = Case("as_published", max_ell=3, correlation=3)
NOT_LAUNCHED = {"aten.detach.default", "aten._unsafe_view.default"}
HOST_READS = ("bincount", "nonzero", "masked_select")  # Adam counts its steps on the CPU


class Operators(TorchDispatchMode):
    """Counts operators that compute something; one on a list of tensors counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        returned = func._schema.returns
        is_view = returned and (alias := returned[0].alias_info) and not alias.is_write
        if not is_view and str(func) not in NOT_LAUNCHED:
            self.names[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operators_of_a_step(n_points: int) -> Counter[str]:
    """Count those of a step of a pack of points on five ethanols."""
    atoms = [molecule("CH3CH2OH") for _ in range(5)]
    for i, one in enumerate(atoms):
        one.rattle(0.1, seed=i)
        one.info[ENERGY], one.arrays[FORCES] = 0.0, one.positions * 0
    points = [{"rank": 2, "max_num_epochs": 2, "batch_size": 5} for _ in range(n_points)]
    pack, states = packed(make_model(AS_PUBLISHED), points, {})
    assert fuse(pack.model) and fold(pack.model)
    data = graphs(atoms, pack.model)
    fit = Fit(pack, states, data, data)
    (batch,) = batches(data, 5)
    for _ in range(3):  # TorchScript first looks, then optimises
        fit.train_step(batch, list(range(n_points)))
    with Operators() as counted:
        fit.train_step(batch, list(range(n_points)))
    return counted.names


@pytest.mark.parametrize(("n_points", "most"), [(1, 2120), (16, 2760)])
def test_a_step_has_no_more_operators_than_it_had(n_points: int, most: int) -> None:
    names = operators_of_a_step(n_points)
    assert 1000 < sum(names.values()) <= most, names.most_common(12)
    assert sum(names[x] for x in names if any(read in x for read in HOST_READS)) <= 2
