"""Compile MACE models to TorchScript, as MACE's export for LAMMPS does."""

import copy
import logging

from torch import nn

from lora.mace.door import upstream

log = logging.getLogger(__name__)

TRIES = 10  # 3 of 100 compilations are mixed up; three in a row were seen
MIXED_UP = "Expected a value of type"  # how torch begins when it takes one submodule for another


def scripted(model: nn.Module) -> nn.Module:
    """Return a model in TorchScript, by e3nn; the model itself stays what it is.

    While torch 2.13.0 scripts modules of which parts are scripted already, it takes now and then
    one part for another, and says so; a fresh copy then compiles.

    Args:
        model: A MACE model, or MACE's wrapper of one for LAMMPS.

    Raises:
        RuntimeError: It cannot be compiled.
    """
    for left in reversed(range(TRIES)):
        try:
            out: nn.Module = upstream("e3nn.util.jit").compile(copy.deepcopy(model))
            return out
        except RuntimeError as error:
            if not left or not str(error).startswith(MIXED_UP):
                raise
            log.info("TorchScript is compiled once more: %s", str(error).splitlines()[0])
    raise AssertionError  # the last try returns or raises
