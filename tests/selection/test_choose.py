"""The choice, on tables of errors that are known."""

import json

import numpy as np
import pytest

from lora.selection.choose import Choice, choose
from lora.selection.verdict import best_of_each, ranking
from tests.support.tables import seeds_of, verdicts_of

METRIC = "rmse_f_mev_per_a"
CHECKS = {
    "foundation": {"forgetting": 100.0, "holes": 2.0, "nve": 0.5},
    "lora_a_s0": {"forgetting": 700.0, "holes": 3.0, "nve": 0.5},
    "lora_b_s0": {"forgetting": 400.0, "holes": 2.0, "nve": 1.5},
    "full_s0": {"forgetting": 900.0, "holes": 2.0, "nve": 0.1},
    "freeze_s0": {"forgetting": 200.0, "holes": 1.0, "nve": 0.1},
}
ERRORS = {"lora_a": 60.0, "lora_b": 61.0, "full": 62.0, "freeze": 90.0, "foundation": 500.0}


def test_the_choice_is_of_a_group_and_ships_its_best_seed() -> None:
    # c has the best single point, b the best mean over seeds
    table = seeds_of({"lora_a": (70.0, 1.0), "lora_b": (60.0, 1.0), "lora_c": (62.0, 9.0)}, 3)
    assert choose(table, METRIC, {}) == Choice("lora_b_s0", "lora_b_s0", METRIC)
    kept, refused = ranking(table, METRIC, {})
    assert kept == [f"lora_{x}_s{i}" for x in "bca" for i in range(3)] and refused == []
    groups = dict(zip(table["point"], table["group"], strict=True))
    assert best_of_each(kept, groups) == ["lora_b_s0", "lora_c_s0", "lora_a_s0"]


def test_test_sets_have_no_say() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    table.loc[(table["point"] == "lora_b_s0") & (table["test_set"] == "test"), METRIC] = 1.0
    assert choose(table, METRIC, {}).point == "lora_a_s0"


def test_the_metric_decides() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    table.loc[table["point"] == "lora_b_s0", "rmse_e_mev_per_atom"] = 0.1
    assert choose(table, METRIC, {}).point == "lora_a_s0"
    assert choose(table, "rmse_e_mev_per_atom", {}).point == "lora_b_s0"


def test_a_group_goes_by_its_best_seed_that_keeps_the_limits() -> None:
    table = seeds_of({"lora_a": (60.0, 1.0), "lora_b": (70.0, 1.0)}, 3)
    made = choose(table, METRIC, verdicts_of({"lora_a_s0": {"nve": 5.0}}))
    assert (made.point, made.refused) == ("lora_a_s1", ["lora_a_s0"])


def test_a_training_that_failed_is_not_compared() -> None:
    table = seeds_of({"lora_a": (60.0, 3.0), "lora_b": (61.0, 0.1), "full": (10.0, 0.0)}, 3)
    assert choose(table, METRIC, {}).point == "full_s0"
    failed = table["point"].isin(["lora_a_s0", "full_s0", "full_s1", "full_s2"])
    table.loc[failed, [METRIC, "rmse_e_mev_per_atom"]] = np.nan
    made = choose(table, METRIC, {})
    assert made == Choice("lora_b_s0", "lora_b_s0", METRIC)  # a's seeds left are worse


@pytest.mark.parametrize(
    ("limits", "best", "refused"),
    [
        ({}, "full_s0", {"lora_a_s0": "holes", "lora_b_s0": "nve"}),
        ({"holes": 1.0}, "lora_a_s0", {"lora_b_s0": "nve"}),
        ({"nve": None}, "lora_b_s0", {"lora_a_s0": "holes"}),  # lifted
        (
            {"forgetting": 3.0},
            "freeze_s0",
            {"lora_a_s0": "forgetting", "lora_b_s0": "forgetting", "full_s0": "forgetting"},
        ),
    ],
)
def test_the_choice_changes_with_the_limits(limits: dict, best: str, refused: dict) -> None:
    table = seeds_of({name: (error, 0.0) for name, error in ERRORS.items()}, 1)
    made = choose(table, METRIC, verdicts_of(CHECKS, limits))
    assert made.point == best and made.refused == list(refused)
    for point, name in refused.items():
        assert name in made.reasons[point]


def test_the_foundation_model_is_measured_and_never_a_candidate() -> None:
    assert "foundation" not in verdicts_of(CHECKS)
    table = seeds_of({"lora_a": (60.0, 0.0), "full": (70.0, 0.0), "foundation": (50.0, 0.0)}, 1)
    assert choose(table, METRIC, {}).point == "lora_a_s0"
    refused = verdicts_of({point: {"nve": 9.0} for point in ("lora_a_s0", "full_s0")})
    made = choose(table, METRIC, refused)  # all are: the lowest error of what was trained
    assert made.point == "lora_a_s0" and made.refused == ["lora_a_s0", "full_s0"]


def test_what_cannot_be_compared_is_not_refused() -> None:
    (verdict,) = verdicts_of({"lora_a_s0": {"holes": 9.0}})["lora_a_s0"].values()
    assert verdict.compared is None and verdict.passed and verdict.text() == "holes 9 u"


def test_less_data_is_not_chosen() -> None:
    table = seeds_of({"lora_a": (61.0, 0.0), "lora_a_f0.5": (60.0, 0.0)}, 1)
    assert choose(table, METRIC, {}).point == "lora_a_s0"


def test_only_points_that_had_the_long_checks_can_be_chosen() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    assert choose(table, METRIC, {}, {"lora_b_s0"}).point == "lora_b_s0"


def test_where_the_long_checks_refuse_all_that_had_them_the_next_is_taken_and_said() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0), "lora_c": (62.0, 0.0)}, 1)
    refused = verdicts_of({f"lora_{x}_s0": {"nve": 5.0} for x in "ab"})
    had = ["lora_a_s0", "lora_b_s0"]
    made = choose(table, METRIC, refused, had)
    assert (made.point, made.put_off) == ("lora_c_s0", had)
    assert Choice.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert choose(table, METRIC, refused, [*had, "lora_c_s0"]).put_off == []


def test_where_all_are_refused_the_best_is_taken() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    made = choose(table, METRIC, verdicts_of({f"lora_{x}_s0": {"nve": 5.0} for x in "ab"}))
    assert (made.point, made.lora) == ("lora_a_s0", "lora_a_s0")
    assert made.refused == ["lora_a_s0", "lora_b_s0"]


def test_a_decision_survives_json() -> None:
    table = seeds_of({name: (error, 0.0) for name, error in ERRORS.items()}, 1)
    made = choose(table, METRIC, verdicts_of(CHECKS))
    assert Choice.from_dict(json.loads(json.dumps(made.to_dict()))) == made
