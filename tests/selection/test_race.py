"""Races: who goes on at a rung, and what of a difference is chance."""

import math

import numpy as np
import pytest

from lora.plan.config_race import Rules
from lora.selection.race import compare, noise_of, score

FALL = [100.0, 80.0, 64.0, 51.2, 40.96]  # a fifth less at each epoch: no jumps


def falling(factor: float) -> dict[int, list[float]]:
    return {1: [factor * x for x in FALL]}


SIX = {f"g{i}": falling(1 + i / 10) for i in range(6)}


def test_the_best_share_goes_on_in_order() -> None:
    shuffled = {g: SIX[g] for g in ("g3", "g0", "g5", "g2", "g1", "g4")}
    rung = compare(shuffled, 3, room=3, margin=1.0)
    assert rung.kept == ("g0", "g1", "g2") and list(rung.scores) == [f"g{i}" for i in range(6)]
    assert rung.noise == pytest.approx(0, abs=1e-12)
    assert rung.behind("g5") == pytest.approx(0.5) and rung.behind("g0") == 0


def test_room_is_a_share_and_at_the_last_rung_that_of_the_finalists() -> None:
    rules = Rules((0.1, 0.2, 0.4), keep=0.5, finalists=2, margin=0.0)
    assert [rules.room(n, 0) for n in (12, 7, 3, 2, 1)] == [6, 4, 2, 2, 1]
    assert [rules.room(n, 1) for n in (12, 5)] == [6, 3]
    assert [rules.room(n, 2) for n in (12, 5, 1)] == [2, 2, 1]


def test_so_many_go_on_as_there_is_room_for() -> None:
    assert compare(SIX, 2, 2, 0.0).kept == ("g0", "g1")
    assert len(compare(SIX, 2, 6, 0.0).kept) == 6


def test_who_failed_does_not_go_on_whatever_the_margin() -> None:
    lost = {"a": falling(1.0)} | {x: {1: [math.nan] * 4} for x in "bcd"}
    for margin in (0.0, 1.0):
        assert compare(lost, 3, 2, margin).kept == ("a", "b")  # room for two


def test_what_is_within_the_noise_of_the_cut_goes_on() -> None:
    rng = np.random.default_rng(0)
    noisy = {g: {1: [x * math.exp(rng.normal(0, 0.05)) for x in c[1]]} for g, c in SIX.items()}
    noise = noise_of(noisy, 4)
    assert 0.02 < noise < 0.3
    strict, mild, none = (compare(noisy, 4, 3, m) for m in (0.0, 1.0, 100.0))
    assert len(strict.kept) == 3 and len(none.kept) == 6
    assert set(strict.kept) <= set(mild.kept)
    assert mild.cut == pytest.approx(strict.cut + noise)
    assert {g for g, s in mild.scores.items() if s <= mild.cut} == set(mild.kept)


def test_noise_of_seeds_is_that_of_differences_of_groups() -> None:
    """A bad seed is bad for all; only what it does to one and not to the other is chance."""
    rng = np.random.default_rng(1)
    n_groups, n_seeds, own = 200, 3, 0.04
    shared = rng.normal(0, 0.5, n_seeds)
    curves = {
        f"g{i}": {s: [math.exp(shared[s] + rng.normal(0, own) + i)] for s in range(n_seeds)}
        for i in range(n_groups)
    }
    assert noise_of(curves, 0) == pytest.approx(own * math.sqrt(2 / n_seeds), rel=0.1)
    means = np.array([score(x, 0) - i for i, x in enumerate(curves.values())])
    assert np.diff(means).std() == pytest.approx(noise_of(curves, 0), rel=0.15)


def test_one_curve_of_one_epoch_says_nothing_of_the_noise() -> None:
    assert noise_of({"a": {1: [2.0]}, "b": {1: [3.0]}}, 0) == 0
    assert noise_of({"a": {1: [2.0], 2: [2.5]}}, 0) == 0


def test_what_ended_early_keeps_its_last_error_and_what_is_no_number_is_last() -> None:
    curves = {"early": {1: [9.0, 4.0]}, "long": {1: [9.0, 8.0, 7.0, 6.0]}, "bad": {1: [math.nan]}}
    rung = compare(curves, 3, room=2, margin=0.0)
    assert rung.kept == ("early", "long") and rung.scores["bad"] == math.inf
    assert noise_of(SIX | {"bad": {1: [math.nan] * 5}}, 4) == pytest.approx(0, abs=1e-12)
    assert noise_of({"bad": curves["bad"]}, 4) == 0
    assert score({1: [1.0, 4.0], 2: [1.0, 9.0]}, 1) == pytest.approx(math.log(6))


def test_rungs_are_shares_of_the_longest_training() -> None:
    assert Rules((0.07, 0.33), 0.5, 2, 1.0).epochs(15) == [1, 5]
    assert Rules((0.01, 2.0), 0.5, 2, 1.0).epochs(10) == [1, 10]
