"""Measure what a training takes of its machine, for the page of system metrics in MLflow."""

import resource
import time
from contextlib import suppress
from pathlib import Path

import torch

MB = 2**20


class Usage:
    """What this process has used since it was last asked.

    Args:
        device: The device that trains: cpu, cuda or cuda:N.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.before = (time.monotonic(), time.process_time())

    def since(self) -> dict[str, float]:
        """Return the use of processor (percent of one core) and memory (MB), and of the GPU.

        A GPU's load is there where the package nvidia-ml-py is.
        """
        now = (time.monotonic(), time.process_time())
        wall, busy = (b - a for a, b in zip(self.before, now, strict=True))
        self.before = now
        found = {"process_cpu_percentage": round(100 * busy / max(wall, 1e-9), 1)}
        found["process_memory_megabytes"] = _resident()
        if self.device.startswith("cuda"):
            found["gpu_memory_megabytes"] = torch.cuda.memory_reserved(self.device) // MB
            with suppress(Exception):  # NVIDIA's library refuses some cards and parts of cards
                found["gpu_utilization_percentage"] = torch.cuda.utilization(self.device)
        return found


def _resident() -> int:
    """Return the memory of this process in MB: now, or at most so far where that is not told."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() // MB
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
