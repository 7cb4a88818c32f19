"""Start a server whose forks do the jobs of a sweep, where that is worth it: `lora.cli.warm`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lora.plan.home import LIBRARY
from lora.plan.start import Start

SOCKET, OFF = "MACE_LORA_WARM", "off"  # the variable with the server's socket; there shall be none
FEWEST = 4  # jobs that are worth the server
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def start(how: Start, jobs: int) -> None:
    """Start a server for the jobs of this process, if it is worth it and can be.

    Args:
        how: How snakemake was started.
        jobs: The number of jobs that will run.
    """
    here = how.runs and how.nodes is None and sys.platform == "linux"
    if not here or jobs < FEWEST or os.environ.get(SOCKET) or any(map(os.path.exists, GPUS)):
        return
    home = Path(tempfile.mkdtemp(prefix="mace-lora"))
    os.environ[SOCKET] = str(home / "socket")
    # threads of numpy's own do not survive a fork; the number of torch's is set by each job
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(LIBRARY.parent)}
    subprocess.Popen(
        [sys.executable, "-m", "lora.cli.warm", str(home), str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
