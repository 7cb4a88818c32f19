"""Where a model computes, and with how many threads."""

import torch
from torch import nn

from lora.errors import UserError


def device_of(model: nn.Module) -> str:
    """Return the device of a model, for example "cuda:0".

    Args:
        model: Any module with parameters.
    """
    return str(next(model.parameters()).device)


def check_device(device: str) -> None:
    """Raise an error if torch has no such device here.

    Args:
        device: cpu, cuda or cuda:N.

    Raises:
        UserError: The device is not there.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why, n = str(error).strip().splitlines()[0], torch.cuda.device_count()
        raise UserError(
            f"device: {device} is not there ({why}); this machine has {n} GPUs that torch can use; "
            "choose one of them or cpu"
        ) from None


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads, and run TorchScript without its profiler.

    Profiling and fusing compile again for every new shape of a batch: through the first epochs
    that costs more than it ever saves, and the last digits of a model's first calls would differ
    from those of its later ones, so that a resumed training would not equal an undisturbed one.

    Args:
        threads: The number; None leaves it to torch.
    """
    if threads:
        torch.set_num_threads(threads)
    torch._C._jit_set_texpr_fuser_enabled(False)
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
