"""How many cases of a campaign run: a few in `make test`, all in `make test-long`."""

import os

VARIABLE = "MACE_LORA_COUNTS"  # set from --counts before the tests are imported


def full() -> bool:
    """Return whether campaigns run with their full counts."""
    return os.environ.get(VARIABLE) == "full"


def of(short: int, long: int) -> int:
    """Return the number of cases: `short` in `make test`, `long` in `make test-long`."""
    return long if full() else short
