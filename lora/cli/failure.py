"""Why a job failed, by its log."""

import re
from pathlib import Path

LOG = re.compile(r"mace-lora \w+: (.*)|([\w.]*(?:Error|Exception)\b.*)")


def failure(log: Path) -> str:
    """Return why a job ended in an error, by the last line of its log; "" if it did not.

    Args:
        log: Of the job.
    """
    try:
        last = log.read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return ""
    found = LOG.match(last)
    if not found or last.endswith("run it again to go on"):
        return ""
    return str(found.group(1) or found.group(2))
