"""Races replayed on the stored curves of full grids: what benchmarks/README.md says of them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from lora.plan.config_race import Rules

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted((BENCHMARKS / "curves").glob("*.csv"))
SAID = Rules(rungs=(0.2, 0.4), keep=0.5, finalists=2, margin=0.0)
EPOCHS = {"malonaldehyde_rmd17": 0.25, "study": 1 / 3}  # at most, as a share of the grid's


@pytest.fixture(scope="module")
def race() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_race", BENCHMARKS / "race.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_curves() -> None:
    assert {path.stem for path in FILES} == set(EPOCHS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_race_chooses_as_the_grid(race: ModuleType, path: Path) -> None:
    share, within, worst = race.replay(race.read(path), SAID)
    assert share <= EPOCHS[path.stem] and within >= 19 / 20 and worst < 0.05


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_race_in_which_all_are_kept_is_the_grid(race: ModuleType, path: Path) -> None:
    every = Rules(rungs=(0.1, 0.5), keep=1.0, finalists=99, margin=0.0)
    assert race.replay(race.read(path), every) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_race_of_one_epoch_may_miss_the_best(race: ModuleType, path: Path) -> None:
    """Guards the above: the numbers are not those of a race that cannot fail."""
    hasty = Rules(rungs=(0.01,), keep=0.01, finalists=1, margin=0.0)
    share, within, _ = race.replay(race.read(path), hasty)
    assert share < 0.15 and within < 0.7


def test_the_error_is_that_of_the_epoch_with_the_lowest_loss(race: ModuleType) -> None:
    losses, errors = [4.0, 2.0, 3.0, 1.0], [40.0, 25.0, 20.0, 22.0]
    history = [{"valid_loss": a, race.ERROR: b} for a, b in zip(losses, errors, strict=True)]
    assert race.best_so_far(history, race.ERROR) == [40.0, 25.0, 25.0, 22.0]


def test_epochs_are_counted_of_all_who_ran(race: ModuleType) -> None:
    """Three groups of two seeds, ten epochs: one stops after two, two run both seeds to the end."""
    grid = {
        name: {seed: [50.0, *(start * 0.9**i for i in range(10))] for seed in (1, 2)}
        for name, start in (("a", 30.0), ("b", 20.0), ("c", 10.0))
    }
    outcome = race.race(grid, (1, 2), Rules((0.2,), 0.1, 2, 0.0))
    assert outcome == race.Outcome("c", 2 + 2 * 2 * 10)
