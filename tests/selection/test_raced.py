"""How sure a race makes the choice: races made up, with noise of known size."""

import math

import pytest

from lora.plan.config_race import Rules
from lora.plan.points import Point
from lora.plan.race import Heat
from lora.selection.race import Rung
from lora.selection.raced import Raced, sure

EPOCHS = 10


def made_up(errors: dict[str, float], noise: float, finalists: int = 2) -> Raced:
    """A race of one rung; the lowest errors come to the end."""
    groups = {x: {1: Point(f"{x}_s1", x, "lora")} for x in errors}
    heat = Heat("lora", groups, Rules((0.5,), 0.5, finalists, 0.0), EPOCHS)
    scores = {x: math.log(e) for x, e in sorted(errors.items(), key=lambda item: item[1])}
    kept = tuple(list(scores)[:finalists])
    stopped = {x: "behind" for x in scores if x not in kept}
    return Raced(heat, [Rung(5, scores, noise, scores[kept[-1]], kept)], stopped, "valid_loss")


def test_far_apart_and_without_noise_it_is_certain() -> None:
    race = made_up({"a": 10.0, "b": 20.0, "c": 40.0, "d": 80.0}, noise=0.0)
    found = sure(race, {"a": [5.0, 5.1], "b": [9.0, 9.1]}, "a")
    assert (found.same, found.missed) == (1.0, 0.0)
    assert race.finalists == ("a", "b") and race.last("c") is race.rungs[0]


def test_seeds_that_overlap_make_it_less_sure() -> None:
    race = made_up({"a": 10.0, "b": 11.0, "c": 40.0}, noise=0.0)
    far = sure(race, {"a": [5.0, 5.2, 5.4], "b": [6.0, 6.2, 6.4]}, "a")
    near = sure(race, {"a": [5.0, 5.2, 5.4], "b": [5.1, 5.3, 5.5]}, "a")
    assert far.same == 1.0 and 0.5 < near.same < 0.95


def test_noise_at_the_rung_lets_those_in_that_were_stopped() -> None:
    errors = {"a": 10.0, "b": 10.1, "c": 10.2, "d": 10.3}
    shares = [
        sure(made_up(errors, noise), {"a": [5.0], "b": [5.05]}, "a").missed
        for noise in (0.0, 0.02, 0.2)
    ]
    assert shares[0] == 0.0 and shares[0] < shares[1] < shares[2] < 0.7


def test_the_error_at_the_rung_tells_of_the_end_of_who_was_stopped() -> None:
    """As far behind as at the rung: with noise, but twice the error, it is never the best."""
    race = made_up({"a": 10.0, "b": 10.1, "c": 20.0}, noise=0.05)
    assert sure(race, {"a": [5.0], "b": [7.0]}, "a").missed == 0.0


def test_what_is_within_the_noise_goes_on_in_each_draw() -> None:
    """The third at the rung is the best at the end: with a margin it nearly always gets there."""
    groups = {x: {1: Point(f"{x}_s1", x, "lora")} for x in "abcd"}
    heat = Heat("lora", groups, Rules((0.5,), 0.5, 2, 3.0), EPOCHS)
    scores = {x: math.log(10 + 0.1 * i) for i, x in enumerate("abcd")}
    race = Raced(heat, [Rung(5, scores, 0.02, scores["d"], tuple("abcd"))], {}, "valid_loss")
    finals = {"a": [5.0, 5.1], "b": [5.0, 5.1], "c": [4.0, 4.1], "d": [6.0, 6.1]}
    assert sure(race, finals, "c").same > 0.9


def test_a_finalist_that_failed_was_not_stopped() -> None:
    race = made_up({"a": 10.0, "b": 10.1, "c": 40.0}, noise=0.01)
    found = sure(race, {"b": [5.0, 5.1]}, "b")
    assert (found.same, found.missed) == (1.0, 0.0)


def test_it_is_the_same_each_time() -> None:
    race = made_up({"a": 10.0, "b": 10.1, "c": 10.2}, noise=0.1)
    finals = {"a": [5.0, 5.5], "b": [5.1, 5.4]}
    assert sure(race, finals, "a") == sure(race, finals, "a")


def test_as_often_as_the_noise_says() -> None:
    """Two that differ by one standard deviation of a difference: the worse one wins in 16 %."""
    noise = 0.1
    race = made_up({"a": 10.0, "b": 10.0 * math.exp(noise), "c": 100.0}, noise, finalists=1)
    found = sure(race, {"a": [5.0]}, "a", draws=20000)
    # b comes to the end instead of a, alone, in the share of a normal beyond 1 (0.159)
    assert found.same == pytest.approx(1 - 0.159, abs=0.01)
