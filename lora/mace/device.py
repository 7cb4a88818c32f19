"""Where a model computes, and with how many threads."""

import torch
from torch import nn

from lora.errors import UserError


def device_of(model: nn.Module) -> str:
    """Return where the model lies: cpu, cuda or cuda:N.

    Args:
        model: A model with parameters.
    """
    return str(next(model.parameters()).device)


def check_device(device: str) -> None:
    """Try whether torch has a device here.

    Args:
        device: The device: cpu, cuda or cuda:N.

    Raises:
        UserError: It has not.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"device: {device} is not there ({why}); this machine has {torch.cuda.device_count()} "
            "GPUs that torch can use"
        ) from None


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads, and TorchScript without its profiler.

    Profiling and fusing compile again for every new shape of a batch: through the first epochs
    that costs more than it ever saves, and the last digits of a model's first calls would differ
    from those of its later ones, so that a resumed training would not equal an undisturbed one.

    Args:
        threads: The number of threads; None leaves it to torch.
    """
    if threads:
        torch.set_num_threads(threads)
    torch._C._jit_set_texpr_fuser_enabled(False)
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
