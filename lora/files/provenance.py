"""Say where and with what something was computed."""

import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ["mace-lora-sweep", "mace-torch", "e3nn", "torch"]


def facts(device: str) -> dict[str, str | None]:
    """Return the machine, its processor or GPU, versions, and the commit of the library.

    Args:
        device: The device that computed: cpu, cuda or cuda:N.
    """
    import torch

    on_gpu = device.startswith("cuda")
    found = {name: version_of(name) for name in PACKAGES}
    return {
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **found,
        "commit": commit(Path(__file__).parents[1]),
    }


def commit(folder: Path) -> str | None:
    """Return the git commit of a folder, with + where files have changed since.

    Args:
        folder: A folder of a git repository; of another folder the commit is None.
    """
    try:
        found = [_git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", ".")]
    except (OSError, subprocess.SubprocessError):
        return None
    return found[0] + ("+" if found[1] else "")


def _git(folder: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None where it is not installed.

    Args:
        package: The name of its distribution.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
