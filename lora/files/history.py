"""Read the epochs of a training."""

import json
from pathlib import Path
from typing import Any


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a training, a line each; [] where there is no file yet.

    Args:
        path: Its metrics.jsonl.
    """
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
