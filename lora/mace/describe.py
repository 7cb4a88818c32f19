"""What a foundation model is, in plain values, and the proof that what is trained computes it."""

from typing import Any

import torch
from ase.data import chemical_symbols
from torch import nn

from lora.errors import UserError
from lora.mace.conditions import CONDITIONS, known_conditions
from lora.mace.door import Untyped
from lora.mace.elements import elements, trim_elements
from lora.mace.heads import two_heads
from lora.mace.loading import heads_of
from lora.mace.predict import on_cluster
from lora.plan.commands import Base

EXACT = {torch.float64: 1e-10, torch.float32: 1e-4}  # relative


def describe(model: Untyped) -> dict[str, Any]:
    """Return what a model is, as JSON holds it.

    Args:
        model: A MACE model, with all its heads.

    Returns:
        class, elements (symbols), r_max (Å), heads, dtype, parameters, blocks (class names of
        interactions, products and readouts) and embeddings (whether it takes total charge, spin).
    """
    blocks = {
        name: [type(block).__name__ for block in getattr(model, name)]
        for name in ("interactions", "products", "readouts")
    }
    return {
        "class": type(model).__name__,
        "elements": [chemical_symbols[z] for z in elements(model)],
        "r_max": float(model.r_max),
        "heads": heads_of(model),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in model.parameters()),
        "blocks": blocks,
        "embeddings": {name: name in taken_by(model) for name in CONDITIONS},
    }


def taken_by(model: Untyped) -> list[str]:
    """Return what a model takes of a structure beside its atoms: total_charge, total_spin.

    Args:
        model: A MACE model.
    """
    return list(known_conditions(model))


def prove_exact(whole: nn.Module, chosen: nn.Module, base: Base, replay: bool = False) -> float:
    """Compare what is trained with the model in the file: with one head, and on three elements.

    Args:
        whole: The model of the file, with all its heads.
        chosen: The same with one head.
        base: What the user calls it, for messages.
        replay: Compare the model with a second head for replay, too.

    Returns:
        The largest difference of energies (eV) and forces (eV/Å) of a small made-up cluster.

    Raises:
        UserError: They differ by more than rounding, or MACE cannot give it a second head.
    """
    numbers = elements(chosen)
    numbers = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    (head,) = heads_of(chosen)
    expected = on_cluster(whole, numbers, head)
    made = [chosen, *([two_heads(chosen)] if replay else [])]
    worst = 0.0
    for model in (*made, *(trim_elements(x, numbers) for x in made)):
        found = on_cluster(model, numbers)
        for key, value in expected.items():
            difference = float((found[key] - value).abs().max())
            worst = max(worst, difference)
            if not difference <= EXACT[value.dtype] * max(1.0, float(value.abs().max())):
                raise UserError(
                    f"{base.called}: the {key} of what would be trained differ by "
                    f"{difference:.1e} from those of its head {head}, so it cannot be fine-tuned "
                    "here; please report it"
                )
    return worst
