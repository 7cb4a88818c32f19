"""Who goes on at a rung where trainings failed, or models are over a limit of a check."""

import math
from pathlib import Path

import pytest

from lora.steps import rung
from tests.support.plans import begin, config

FAILED = math.inf


@pytest.mark.parametrize(
    ("errors", "over", "kept"),
    [
        ((4.0, 3.0, 2.0, 1.0), "", "dc"),
        ((4.0, 3.0, 2.0, 1.0), "d", "cb"),
        ((4.0, 3.0, 2.0, 1.0), "dcb", "da"),  # one is left: the best of the others with it
        ((4.0, 3.0, 2.0, 1.0), "dcba", "dc"),
        ((FAILED, FAILED, 2.0, 1.0), "dc", "dc"),  # those that failed are not left
        ((FAILED, 3.0, 2.0, 1.0), "dc", "db"),
        ((FAILED, FAILED, FAILED, 1.0), "d", "da"),
    ],
)
def test_who_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    errors: tuple[float, ...],
    over: str,
    kept: str,
) -> None:
    grid = {"rank": [1, 2], "alpha": [1, 2], "seed": [1, 2]}
    sweep = begin(config(tmp_path, grid=grid, race={"rungs": [0.5]}))
    heat = sweep.heats["lora"]
    names = dict(zip("abcd", heat.groups, strict=True))
    points = {f"{names[x]}_s1": error for x, error in zip("abcd", errors, strict=True)}
    monkeypatch.setattr(rung, "_curve", lambda sweep, point, *given: [points[point]])
    refused = {f"{names[x]}_s1": "over" for x in over}
    found = rung._compare(sweep, heat, 1, {x: {} for x in points}, "error", refused)
    assert list(found.kept) == [names[x] for x in kept]
