"""A merged model written for simulation engines: MACE's own formats, through MACE's own classes."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lora.errors import UserError
from lora.files.sealed import write_bytes, write_torch
from lora.mace.door import default_dtype, upstream
from lora.mace.foundation import load_foundation
from lora.mace.kernels import to_kernel
from lora.mace.notes import without_notes


def plain(model_file: Path, head: str | None, dtype: torch.dtype | None) -> nn.Module:
    """The model of a file: one head, one dtype, none of the notes that we keep on a model."""
    model = without_notes(load_foundation(model_file, head, dtype))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def standard(model: nn.Module) -> nn.Module:
    """For ASE, OpenMM and torch-sim: the model as it is."""
    return model


def cueq(model: nn.Module) -> nn.Module:
    """For cuEquivariance: converted, and compared with what it was made from."""
    return without_notes(to_kernel(model, "cueq"))


def torchscript(model: nn.Module) -> nn.Module:
    """For LAMMPS' `pair_style mace`: what `mace_create_lammps_model` writes."""
    dtype = next(model.parameters()).dtype
    with default_dtype(dtype):
        made = upstream("mace.calculators").LAMMPS_MACE(copy.deepcopy(model), head=model.heads[0])
        out: nn.Module = upstream("e3nn.util.jit").compile(made)
    return out


def mliap(model: nn.Module) -> nn.Module:
    """For LAMMPS' `pair_style mliap unified`, on cuEquivariance as MACE's own tool makes it."""
    dtype = next(model.parameters()).dtype
    converted = cueq(model)
    converted.lammps_mliap = True
    with default_dtype(dtype):
        out: nn.Module = upstream("mace.calculators.lammps_mliap_mace").LAMMPS_MLIAP_MACE(
            converted, head=model.heads[0]
        )
    return out


# what an engine opens, by the end of the file's name; OpenMM and torch-sim open ASE's
FORMATS: dict[str, Callable[[nn.Module], nn.Module]] = {
    ".model": standard,
    "-cueq.model": cueq,
    ".model-lammps.pt": torchscript,
    ".model-mliap_lammps.pt": mliap,
}


def dtype_of(path: Path, suffix: str) -> torch.dtype:
    """The dtype of the weights in an exported file."""
    upstream("mace.calculators.lammps_mliap_mace")
    if FORMATS[suffix] is torchscript:
        held = torch.jit.load(str(path), map_location="cpu")
    else:
        held = torch.load(path, map_location="cpu", weights_only=False)
    return next(getattr(held, "model", held).parameters()).dtype


def write_format(model: nn.Module, path: Path, suffix: str) -> None:
    """Write a model in the format of a suffix, whole or not at all.

    Raises UserError: MACE cannot write this model in this format.
    """
    try:
        made = FORMATS[suffix](model)
    except (RuntimeError, AttributeError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path.name}: MACE cannot write this model in that format ({why})"
        ) from None
    if isinstance(made, torch.jit.ScriptModule):
        write_bytes(path, made.save_to_buffer())
    else:
        write_torch(path, made)
