"""One training on several GPUs: each process takes its share of every batch.

torchrun starts them and says in the environment how many there are.  Gradients are averaged, so
that every process holds the same weights all the time and a step equals that of one process with
the whole batch.  MACE's losses weigh shares of unequal size as they must.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def join_others(device: str) -> str:
    """Join the other processes, if there are any.  Return the device of this one.

    Args:
        device: As the settings have it, "cpu" or "cuda".
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return device
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # the first may wait long for the lock of another job; torchrun ends all if one fails
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(days=7))
    return device


def leave() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank_and_size() -> tuple[int, int]:
    """Return which process this is, and of how many."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Return True in the process that writes files; right before `join_others`, too."""
    return int(os.environ.get("RANK", "0")) == 0


def average(tensors: Iterable[Tensor]) -> None:
    """Put the mean over all processes into each tensor, in place."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()


def any_of(value: bool) -> bool:
    """Return True if it is true in any of the processes, so that all go the same way."""
    if not dist.is_initialized():
        return value
    on_gpu = dist.get_backend() == "nccl"
    flag = torch.tensor(float(value), device="cuda" if on_gpu else "cpu")
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)
