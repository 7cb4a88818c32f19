"""Starts of trainings that are cut from adapters of a higher rank.

The start is the best approximation of the adapter's change of each weight by a lower rank
(`lora.adapters.algebra.cut`), whatever alpha and scaling make of it.
"""

import copy
from collections.abc import Callable
from pathlib import Path

from torch import nn

from lora.adapters.algebra import cut
from lora.adapters.full_layout import trimmed_values
from lora.adapters.inject import lora_layers
from lora.adapters.saved import load_adapted
from lora.files.sealed import read_seal
from lora.mace.origin import origin_of
from lora.plan.earlier import CARD, TENSORS


def cut_from(base: nn.Module, folder: Path) -> Callable[[nn.Module], None]:
    """Return what puts the adapters of a model at those of a saved adapter, cut to their ranks.

    Args:
        base: The foundation model that the adapter was trained on.
        folder: The folder of the adapter.

    Raises:
        UserError: The adapter is missing or damaged, or belongs to another base.
    """
    saved = dict(lora_layers(load_adapted(copy.deepcopy(base), folder)))

    def start(model: nn.Module) -> None:
        origin = origin_of(model)
        for name, layer in lora_layers(model):
            whole = saved[name]
            lower = cut(whole, layer.rank) if layer.rank < whole.width else whole
            values = {key: x.detach() for key, x in lower.values().items()}
            layer.set_values(trimmed_values(model, origin, name, layer, values))

    return start


def digest_of(folder: Path) -> str:
    """Return a digest of a saved adapter.

    Args:
        folder: The folder of the adapter.

    Raises:
        UserError: The adapter is missing or damaged.
    """
    return str(read_seal(folder / CARD)["files"][TENSORS])
