"""How many cases of a campaign run: a few in `make test`, all in `make test-long`."""

import os
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

VARIABLE = "MACE_LORA_COUNTS"  # set from --counts before the tests are imported


def full() -> bool:
    """Return whether campaigns run with their full counts."""
    return os.environ.get(VARIABLE) == "full"


def of(short: int, long: int) -> int:
    """Return the number of cases: `short` in `make test`, `long` in `make test-long`."""
    return long if full() else short


def covering(rows: Iterable[Any], *axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return combinations of rows with values of axes: all of them in `make test-long`.

    In `make test` the first row has every combination of the axes, and each other row one, each in
    its turn: nothing of any axis is left out.
    """
    every, combined = list(rows), list(product(*axes))
    if full():
        return [(row, *values) for row in every for values in combined]
    turns = [(row, *combined[i % len(combined)]) for i, row in enumerate(every[1:])]
    return [(every[0], *values) for values in combined] + turns


def named(combinations: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return their names for pytest."""
    return ["-".join(str(getattr(x, "name", x)) for x in one) for one in combinations]
