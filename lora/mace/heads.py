"""Replay: a second head that keeps the foundation model's own level of theory while one trains.

MACE calls it multihead fine-tuning.  Both heads share everything but readouts and E0s; what is
shipped at the end is the new head alone, in the architecture of the foundation model.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.data.held import changed, hold
from lora.data.labels import WEIGHT
from lora.errors import UserError
from lora.mace.door import Untyped, default_dtype, upstream
from lora.mace.graphs import HEAD
from lora.mace.origin import origin_of, pass_on

REPLAY = "pt_head"  # MACE's name for it


def two_heads(model: nn.Module) -> nn.Module:
    """Return the model with a second head for replay, which starts as a copy of its own head.

    Args:
        model: A model with one head, which comes first and keeps its name.

    Raises:
        UserError: MACE itself cannot give heads to such a model.
    """
    dtype = next(model.parameters()).dtype
    tools = upstream("mace.tools")
    with default_dtype(dtype):
        config = upstream("mace.tools.scripts_utils").extract_config_mace_model(model)
        if "error" in config:
            raise UserError(
                f"replay: MACE gives no second head to a {type(model).__name__}; only "
                "ScaleShiftMACE models can be trained with replay"
            )
        own = list(getattr(model, "heads", None) or ["Default"])[:1]
        own = ["Default"] if own == [REPLAY] else own  # graphs know their head by its name
        config["heads"] = [*own, REPLAY]
        e0s = np.atleast_2d(config["atomic_energies"])
        config["atomic_energies"] = np.concatenate([e0s, e0s])
        for key in ("atomic_inter_scale", "atomic_inter_shift"):
            config[key] = np.repeat(np.atleast_1d(config[key]), 2)
        table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
        made: nn.Module = type(model)(**config)
        with torch.no_grad():
            made = upstream("mace.tools.finetuning_utils").load_foundations_elements(
                *(made, model, table),
                load_readout=True,
                max_L=config["hidden_irreps"].lmax,
                default_dtype=dtype,
            )
    made.eval()
    pass_on(origin_of(model), made, second_head=True)
    return made


def own_head(model: Untyped, like: nn.Module) -> nn.Module:
    """Return the first head of a model with two, in the architecture that it came from.

    Args:
        model: A model that `two_heads` made, trained or not.
        like: The model that it was made from.
    """
    with default_dtype(next(model.parameters()).dtype):
        single = upstream("mace.tools.scripts_utils").remove_pt_head(model, model.heads[0])
    out, state = copy.deepcopy(like), single.state_dict()
    with torch.no_grad():
        for name, value in out.state_dict().items():
            value.copy_(state[name].reshape(value.shape))
    return out


def mark_replay(structures: Sequence[Atoms], weight: float) -> Sequence[Atoms]:
    """Return copies for the head `REPLAY`, with a weight in the loss.

    Args:
        structures: The replayed structures.
        weight: The weight of each in the loss, times the one that it has.
    """

    def mark(atoms: Atoms) -> None:
        atoms.info |= {HEAD: REPLAY, WEIGHT: weight * float(atoms.info.get(WEIGHT, 1.0))}

    return changed(hold(atoms.copy() for atoms in structures), mark)
