"""Write the lock: of each pinned version the SHA-256 of every file that pip may take for it.

    pip freeze --exclude-editable | python envs/lock.py requirements.lock
    python envs/lock.py requirements-cuda.lock < requirements-cuda.lock    # the hashes anew

Files are those that PyPI has for Python 3.11 and 3.12 on Linux and macOS.  requirements-cpu.lock,
torch's CPU build, is written by hand: only download.pytorch.org/whl/cpu has it.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INDEX = "https://pypi.org/simple"
TYPE = {"Accept": "application/vnd.pypi.simple.v1+json"}
PYTHONS = re.compile(r"py3|py2\.py3|cp31[12]|cp3\d?-abi3|cp310-abi3")
SYSTEMS = re.compile(r"any|manylinux.*(x86_64|aarch64)|macosx.*(x86_64|arm64|universal2)")
BUILD = "setuptools==84.2.1"  # pip freeze leaves it out; torch needs it, and so do sdists


def pins(lines: list[str]) -> list[str]:
    """name==version of each line of a lock or of pip freeze, without a build such as +cpu."""
    found = re.findall(r"^([\w.-]+==[\w.]+)", "\n".join(lines), re.M)
    return sorted({*found}, key=lambda pin: pin.split("==")[0].lower())


def hashes(pin: str) -> list[str]:
    """The hashes of one pinned version, sorted."""
    name, version = pin.split("==")
    request = urllib.request.Request(f"{INDEX}/{_normal(name)}/", headers=TYPE)
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = {x["filename"]: x["hashes"]["sha256"] for x in json.load(answer)["files"]}
    wheels = [files[x] for x in files if _fits(x, version)]
    sources = [files[x] for x in files if re.fullmatch(rf".*-{re.escape(version)}\.tar\.gz", x)]
    if not (wheels or sources):
        raise SystemExit(f"{pin}: PyPI has no file of it for Python 3.11 and 3.12")
    return sorted(wheels or sources)


def _fits(file: str, version: str) -> bool:
    """Whether a file is a wheel of a version, for the systems above."""
    parts = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or parts[1] != version:
        return False
    python, abi, system = parts[-3:]
    right = abi in ("none", "abi3") or python in ("cp311", "cp312")
    return right and bool(PYTHONS.match(f"{python}-{abi}") and SYSTEMS.match(system))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lock(lines: list[str]) -> Iterator[str]:
    """The lines of a lock."""
    found = pins(lines)
    with ThreadPoolExecutor(16) as pool:
        for pin, sums in zip(found, pool.map(hashes, found), strict=True):
            yield " \\\n".join([pin, *(f"    --hash=sha256:{x}" for x in sums)])


if __name__ == "__main__":
    path, given = Path(sys.argv[1]), sys.stdin.read().splitlines()
    more = [BUILD] if path.name == "requirements.lock" else []
    head = ["# Every file that may be installed, by its hash; envs/lock.py wrote it."]
    path.write_text("\n".join([*head, *lock(given + more)]) + "\n")
