"""Calibrated bounds: they hold as often as they say, and are called an uncertainty only there."""

import json

import numpy as np
import pandas as pd
import pytest

from lora.data.calibration import Trial
from lora.data.conformal import calibrate, least, measure, quantile, share
from tests.support import counts

ATOMS, DRAWS = 4, counts.of(100, 1000)
Table = pd.DataFrame


def draw(rng: np.random.Generator, n: int, times: float = 1.0, name: str = "valid") -> Table:
    """Errors of n structures with tails, sizes that scores follow badly, and a share in common."""
    score = np.exp(rng.normal(size=(n, ATOMS, 1)))
    own = np.exp(0.4 * rng.normal(size=(n, 1, 1)))  # of all forces of a structure
    size = score**0.7 * own * np.exp(0.2 * rng.normal(size=(n, ATOMS, 1)))
    error = times * np.abs(size * rng.standard_t(5, size=(n, ATOMS, 3)))
    return pd.DataFrame(
        {
            "test_set": name,
            "structure": np.repeat(np.arange(n), 3 * ATOMS),
            "score": np.broadcast_to(score, error.shape).ravel(),
            "error": error.ravel(),
        }
    )


def test_with_one_number_a_structure_it_is_the_usual_quantile() -> None:
    rng = np.random.default_rng(0)
    for n, coverage in ((9, 0.9), (10, 0.9), (57, 0.9), (100, 0.5), (99, 0.99)):
        ratios = rng.normal(size=n)
        k = int(np.ceil(np.round((n + 1) * coverage, 9)))
        assert quantile(ratios, np.arange(n), coverage) == np.sort(ratios)[k - 1]


def test_there_are_no_bounds_of_too_few_structures() -> None:
    assert [least(x) for x in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    table = draw(np.random.default_rng(0), 9)
    assert np.isfinite(calibrate(table, 0.9).component)
    with pytest.raises(ValueError, match="8 structures, and 9 are needed"):
        calibrate(table[table["structure"] < 8], 0.9)


@pytest.mark.long
@pytest.mark.parametrize("n", [9, 15, 40])
def test_bounds_hold_for_the_nominal_share_of_new_structures(n: int) -> None:
    """On average over calibration sets, whatever the errors are; a plain quantile's do not."""
    rng = np.random.default_rng(1)
    shares: dict[str, list[float]] = {"components": [], "structures": [], "plain": []}
    for _ in range(DRAWS):
        known, new = draw(rng, n), draw(rng, 40)
        found = measure(new, calibrate(known, 0.9))
        shares["components"].append(found.components.value)
        shares["structures"].append(found.structures.value)
        plain = np.quantile(known["error"] / known["score"], 0.9)
        shares["plain"].append(float((new["error"] <= plain * new["score"]).mean()))
    mean = {name: np.mean(x) for name, x in shares.items()}
    noise = {name: np.std(x) / DRAWS**0.5 for name, x in shares.items()}
    exact = np.ceil(np.round((n + 1) * 0.9, 9)) / (n + 1)  # for one number a structure
    assert abs(mean["structures"] - exact) < 3 * noise["structures"]
    assert 0.9 - 3 * noise["components"] < mean["components"] < 0.93
    assert n > 9 or mean["plain"] < 0.9 - 2 * noise["plain"]


def test_components_count_for_what_they_say() -> None:
    """Off alike, those of a structure are one number; independent, they are all."""
    rng = np.random.default_rng(2)
    ratios = np.exp(rng.normal(size=15))
    alike = np.repeat(ratios, 12), np.repeat(np.arange(15), 12)
    assert quantile(*alike, 0.9) == quantile(ratios, np.arange(15), 0.9) == ratios.max()
    assert np.quantile(alike[0], 0.9) < ratios.max()
    large = np.append(ratios, np.full(1000, 9e9)), np.append(np.arange(15), np.full(1000, 15))
    assert quantile(*large, 0.9) == 9e9 > quantile(*large, 0.8)  # a large one is one of 16
    own = rng.exponential(size=3000)
    k = int(np.ceil(3001 * 0.9))
    found = np.searchsorted(np.sort(own), quantile(own, np.arange(3000) // 100, 0.9)) + 1
    assert k <= found <= k + 3


def test_only_the_order_of_scores_matters() -> None:
    rng = np.random.default_rng(3)
    known, new = draw(rng, 30), draw(rng, 30)
    found = measure(new, calibrate(known, 0.9))
    scaled = [x.assign(score=1e-7 * x["score"]) for x in (known, new)]
    again = measure(scaled[1], calibrate(scaled[0], 0.9))
    assert again.components == found.components
    assert again.median == pytest.approx(found.median)
    assert again.largest == pytest.approx(found.largest) and found.largest > found.median
    zero = new.assign(score=0.0)  # bounds nothing, and breaks nothing
    assert measure(zero, calibrate(known, 0.9)).components.value == 0.0


@pytest.mark.long
@pytest.mark.parametrize("n", [5, 12, 60])
def test_intervals_hold_the_true_share(n: int) -> None:
    """Nearly as often as they say; components of one structure count for little more than one."""
    rng = np.random.default_rng(4)
    bound = calibrate(draw(rng, 200), 0.9)
    truth = measure(draw(rng, 20000), bound)
    inside = []
    for _ in range(2 * DRAWS):
        found = measure(draw(rng, n), bound)
        pairs = (found.components, truth.components), (found.structures, truth.structures)
        inside.append([one.low <= true.value <= one.high for one, true in pairs])
    assert (np.mean(inside, axis=0) > 0.92).all(), np.mean(inside, axis=0)


def test_intervals_of_what_says_little() -> None:
    assert share(np.ones(3), 36).low == pytest.approx(0.44, abs=0.01)  # Wilson's of 3 of 3
    assert share(np.ones(1), 12).low < 0.3
    two = share(np.array([0.9, 0.91]), 24)  # alike by chance
    assert two.low < 0.5 and two.high > 0.99
    alone, together = (share(x, 1200) for x in (np.full(100, 0.9), np.repeat([1.0, 0.0], [90, 10])))
    assert alone.low == pytest.approx(0.881, abs=0.002)  # components that are independent
    assert together.low == pytest.approx(0.824, abs=0.002)  # of a structure, off alike
    assert share(np.zeros(20), 240).low == pytest.approx(0)
    assert share(np.ones(20), 240).high == pytest.approx(1)


def test_a_set_of_another_kind_is_seen_and_not_called_an_uncertainty() -> None:
    rng = np.random.default_rng(5)
    sets = [draw(rng, 60), draw(rng, 300, name="test"), draw(rng, 300, 2.0, name="hot")]
    trial = Trial.of(pd.concat(sets), 0.9)
    assert set(trial.sets) == {"test", "hot"}  # not that of the calibration
    assert list(trial.holding) == ["test"] and list(trial.failing) == ["hot"]
    hot = trial.sets["hot"].components
    assert hot.value < 0.8 and hot.high < 0.87
    few = Trial.of(pd.concat([sets[0], sets[1][sets[1]["structure"] < 3]]), 0.9)
    assert not few.holding  # it may hold there, which three structures do not show
    read = Trial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert read == trial
    told = trial.to_dict()["sets"]
    assert told["test"]["uncertainty"] and not told["hot"]["uncertainty"]
