"""What the tests need of the system, installed by them where it is missing."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

LOCK = Path("/tmp/mace-lora-tests-apt.lock")  # one place of the machine, whatever $TMPDIR is


def install(name: str, arguments: list[str]) -> str:
    """Install packages, one test process after the other: apt-get refuses a second one.

    Args:
        name: What they bring, for the answer.
        arguments: The packages, and options of `apt-get install`.

    Returns:
        Why it cannot be had; "" if it can.
    """
    if os.geteuid() or not shutil.which("apt-get"):
        return f"{name} is not installed, and installing it needs root and apt-get"
    own = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update"], ["install", "-y", "-qq", *arguments]):
            waits = ["apt-get", "-o", "DPkg::Lock::Timeout=600", *command]
            done = subprocess.run(waits, env=own, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"apt-get {command[0]} failed: {done.stderr.strip()[-200:]}"
    return ""
