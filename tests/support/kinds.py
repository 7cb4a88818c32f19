"""A made-up kind of adapter, which cannot be cut, in the catalogue of a process of its own.

The catalogue is read when modules are imported, so the kind has to be there before they are.
"""

import json
import subprocess
import sys
from typing import Any

OTHER = "other"
START = "import json, sys\nfrom tests.support.kinds import add_other\nadd_other()\n"


def add_other() -> None:
    """Add the kind to the catalogue, before another room is imported."""
    from lora.catalogue import methods

    assert not [x for x in sys.modules if x.startswith(("lora.plan", "lora.report"))]
    row = methods.Method(OTHER, OTHER, "made-up weights", 2e-2, 0.9, 5.0, adapter=True)
    methods.BY_NAME[OTHER] = row
    methods.ROWS += (row,)
    methods.METHODS += (OTHER,)
    methods.ADAPTERS += (OTHER,)
    methods.TRAINED += (OTHER,)


def told_with_other(code: str, *args: str) -> Any:
    """Return what a script says in a process that knows the kind.

    Args:
        code: Python, which ends by `print(json.dumps(...))`.
        *args: What it finds in sys.argv.
    """
    command = [sys.executable, "-c", START + code, *args]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)
