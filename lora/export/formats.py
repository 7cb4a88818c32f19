"""Write a merged model for simulation engines: MACE's own formats, through MACE's own classes.

The functions that make what a file holds are named as writers in `lora.catalogue.engines`.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.catalogue.engines import Engine
from lora.catalogue.named import resolve
from lora.errors import UserError
from lora.files.sealed import write_bytes, write_torch
from lora.mace.door import default_dtype, upstream
from lora.mace.foundation import load_foundation
from lora.mace.kernels import to_kernel
from lora.mace.origin import without_notes
from lora.mace.scripted import scripted


def plain(model_file: Path, head: str | None, dtype: torch.dtype | None) -> nn.Module:
    """Return the model of a file with one head, in one dtype, without the notes that we keep on it.

    Args:
        model_file: A .model file.
        head: The head to keep, where the model has several.
        dtype: The precision; None means that of the file.
    """
    model = without_notes(load_foundation(model_file, head, dtype))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def standard(model: nn.Module) -> nn.Module:
    """Return the model as it is, for ASE, OpenMM and torch-sim.

    Args:
        model: The model.
    """
    return model


def cueq(model: nn.Module) -> nn.Module:
    """Return the model on cuEquivariance's layers, compared with what it was made from.

    Args:
        model: The model.
    """
    return without_notes(to_kernel(model, "cueq"))


def torchscript(model: nn.Module) -> nn.Module:
    """Return what `mace_create_lammps_model` writes, for LAMMPS's `pair_style mace`.

    Args:
        model: The model.
    """
    dtype = next(model.parameters()).dtype
    with default_dtype(dtype):
        made = upstream("mace.calculators").LAMMPS_MACE(copy.deepcopy(model), head=model.heads[0])
        return scripted(made)


def mliap(model: nn.Module) -> nn.Module:
    """Return what MACE's own tool writes for LAMMPS's `pair_style mliap unified`.

    Args:
        model: The model, which is converted to cuEquivariance.
    """
    dtype = next(model.parameters()).dtype
    converted: Any = cueq(model)  # takes attributes of any type
    converted.lammps_mliap = True
    with default_dtype(dtype):
        out: nn.Module = upstream("mace.calculators.lammps_mliap_mace").LAMMPS_MLIAP_MACE(
            converted, head=model.heads[0]
        )
    return out


def write_format(model: nn.Module, path: Path, engine: Engine) -> None:
    """Write a model in the format of an engine, whole or not at all.

    Args:
        model: The model, with one head.
        path: The file.
        engine: The row of the engine.

    Raises:
        UserError: The writer of the engine cannot write this model.
    """
    try:
        made = resolve(engine.writer)(model)
    except (RuntimeError, AttributeError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path.name}: MACE cannot write this model in that format ({why})"
        ) from None
    if isinstance(made, torch.jit.ScriptModule):
        write_bytes(path, made.save_to_buffer())
    else:
        write_torch(path, made)
