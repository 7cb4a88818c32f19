"""What the report says of numbers that are known."""

import numpy as np
import pandas as pd
import pytest

from lora.report import comparison, rivals, summary, words
from lora.selection.choose import Choice, choose
from tests.support import counts
from tests.support.tables import seeds_of, verdicts_of

METRIC = "rmse_f_mev_per_a"


def all_said(
    errors: comparison.Errors, choice: Choice, forgotten: tuple[str, ...] = ()
) -> list[str]:
    """Return all that is said of a sweep."""
    return words.Words.of(errors, choice).in_order(forgotten)


def test_a_training_that_failed_is_said_and_not_compared() -> None:
    """No mean over seeds has its numbers."""
    why = "memory ran out in epoch 3"
    table = seeds_of({"lora_a": (60.0, 3.0), "lora_b": (61.0, 0.1), "full": (10.0, 0.0)}, 3)
    failed = table["point"].isin(["lora_a_s0", "full_s0", "full_s1", "full_s2"])
    table.loc[failed, ["ended_by", "reason"]] = "failed", why
    table.loc[failed, [METRIC, "rmse_e_mev_per_atom"]] = np.nan
    choice = choose(table, METRIC, {})
    errors = comparison.Errors(table, METRIC)
    assert errors.groups == ["lora_b", "lora_a"]
    left = errors.of("lora_a", "valid", METRIC)
    assert (left.mean, left.n) == (61.5, 2)
    text = " ".join(all_said(errors, choice))
    assert f"Failed, and left out of all comparisons: lora_a_s0: {why}." in text
    assert "full_s1" in text and "against full" not in text and "nan" not in text
    table.loc[table["point"] == "lora_b_s2", ["ended_by", "reason"]] = "diverged", "in epoch 2 ..."
    text = " ".join(all_said(comparison.Errors(table, METRIC), choice))
    assert "Diverged; the best epoch before is shown: lora_b_s2 (in epoch 2 ...)." in text
    shown = summary.points_table(table.assign(train_seconds=1.0, best_epoch=1))
    assert shown.loc["lora_a_s0", "note"] == f"failed: {why}" and not shown.loc["lora_a_s1", "note"]
    assert "nan" not in shown.to_string()
    assert "nan" not in summary.groups_table(errors, {}).to_string()


def test_what_was_refused_is_said_with_the_reason() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0), "foundation": (500.0, 0.0)}, 1)
    values = {"foundation": {"forgetting": 100.0}, "lora_a_s0": {"forgetting": 1200.0, "nve": 0.5}}
    choice = choose(table, METRIC, verdicts_of({**values, "lora_b_s0": {"forgetting": 500.0}}))
    lines = all_said(comparison.Errors(table, METRIC), choice)
    assert lines[0].startswith("Chosen: lora_b_s0. Of the points that pass all checks, it has")
    assert lines[1] == (
        "Refused: lora_a_s0: forgetting 12 times the foundation model's (1.2e+03 u), limit 10."
    )
    assert "All points pass the checks." not in lines
    groups = summary.groups_table(comparison.Errors(table, METRIC), choice.reasons)
    assert groups["refused for"].to_dict() == {
        "lora_a": "forgetting",
        "lora_b": "",
        "foundation": "",
    }


def test_all_points_pass_only_where_there_were_checks() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    errors, line = comparison.Errors(table, METRIC), "All points pass the checks."
    passed = choose(table, METRIC, verdicts_of({"lora_a_s0": {"nve": 0.5}}))
    assert line in all_said(errors, passed)
    assert line not in all_said(errors, choose(table, METRIC, {}))


def test_where_all_are_refused_it_is_said() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    verdicts = verdicts_of({f"lora_{x}_s0": {"nve": 5.0} for x in "ab"})
    lines = all_said(comparison.Errors(table, METRIC), choose(table, METRIC, verdicts))
    assert lines[0].startswith("No point passes all checks. Of all points, lora_a_s0 has the low")


@pytest.mark.parametrize("protocol", ["replay", "keep"])
@pytest.mark.parametrize(
    ("error", "kept", "little"), [(70.0, 450.0, True), (70.0, 200.0, False), (55.0, 450.0, False)]
)
def test_replay_and_keep_with_lora_are_judged_by_the_sweep(
    error: float, kept: float, little: bool, protocol: str
) -> None:
    table = seeds_of({"lora_r4": (60.0, 0.0), f"lora_r4_{protocol}": (error, 0.0)}, 1)
    values = {"foundation": 100.0, "lora_r4_s0": 500.0, f"lora_r4_{protocol}_s0": kept}
    verdicts = verdicts_of({point: {"forgetting": value} for point, value in values.items()})
    errors = comparison.Errors(table, METRIC)
    (line,) = rivals.protocols_and_lora(errors, choose(table, METRIC, verdicts))
    title = f"{protocol.capitalize()} with LoRA, lora_r4_{protocol} against lora_r4: test force"
    assert line.startswith(title)
    assert f"forgetting {kept / 100:.1f} against 5.0 times" in line
    assert ("it does not pay here" in line) == little
    (line,) = rivals.protocols_and_lora(errors, choose(table, METRIC, {}))
    assert line.endswith("forgetting was not measured (it needs checks.holdout_file).")
    alone = seeds_of({"lora_r4": (60.0, 0.0)}, 1)
    assert (
        rivals.protocols_and_lora(comparison.Errors(alone, METRIC), choose(alone, METRIC, verdicts))
        == []
    )


def test_each_protocol_of_a_sweep_has_a_sentence() -> None:
    marks = ("", "_replay", "_keep", "_replay_keep")
    table = seeds_of({f"lora_r4{x}": (60.0 + i, 0.0) for i, x in enumerate(marks)}, 1)
    values = {f"lora_r4{x}_s0": {"forgetting": 500.0 - i} for i, x in enumerate(marks)}
    verdicts = verdicts_of(values | {"foundation": {"forgetting": 100.0}})
    lines = rivals.protocols_and_lora(
        comparison.Errors(table, METRIC), choose(table, METRIC, verdicts)
    )
    assert [x.partition(" with LoRA, ")[0] for x in lines] == ["Replay", "Keep", "Replay and keep"]
    without = table[table["group"] != "lora_r4"]  # nothing to compare with
    errors = comparison.Errors(without, METRIC)
    assert rivals.protocols_and_lora(errors, choose(without, METRIC, verdicts)) == []


@pytest.mark.parametrize(
    ("full", "spread", "n", "said"),
    [
        (50.0, 1.0, 3, "(worse). LoRA loses to full on: test"),
        (61.0, 3.0, 3, "test 65.0 ± 3.0 against 66.0 ± 3.0 (equal)."),
        (59.0, 3.0, 3, "test 65.0 ± 3.0 against 64.0 ± 3.0 (equal)."),  # no loss, either
        (70.0, 1.0, 3, "(better)."),
        (40.0, 0.0, 1, "test 65.0 against 45.0. LoRA loses to full on: test"),
        (59.0, 0.0, 1, "test 65.0 against 64.0."),  # nor is this one
    ],
)
def test_no_claim_inside_the_spread(full: float, spread: float, n: int, said: str) -> None:
    table = seeds_of({"lora_a": (60.0, spread), "full": (full, spread)}, n)
    errors = comparison.Errors(table, METRIC)
    lines = all_said(errors, choose(table[table["group"] == "lora_a"], METRIC, {}))
    (line,) = (x for x in lines if "against full" in x)
    assert said in line and ("loses" in line) == ("loses" in said)
    assert any("With one seed, differences of a few percent" in x for x in lines) == (n == 1)
    level = "With one seed, LoRA and full fine-tuning cannot be told apart: full fine-tuning has"
    assert any(x.startswith(f"{level} the lower error on test.") for x in lines) == (
        n == 1 and full == 59
    )


def test_one_seed_ahead_on_one_set_and_behind_on_another() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "full": (61.0, 0.0)}, 1)
    hot = table[table["test_set"] == "test"].assign(test_set="hot")
    hot.loc[hot["group"] == "full", METRIC] = 64.0
    both = comparison.Errors(pd.concat([table, hot]), METRIC)
    lines = all_said(both, choose(table, METRIC, {}))
    assert (
        "With one seed, LoRA and full fine-tuning cannot be told apart: LoRA has the lower error "
        "on test; full fine-tuning has the lower error on hot." in lines
    )


@pytest.mark.parametrize(
    ("other", "spread", "n", "said"),
    [
        (61.0, 0.0, 1, "The next best is lora_b with 61.0; with one seed, differences this small"),
        (80.0, 0.0, 1, "The next best is lora_b with 80.0."),
        (61.0, 3.0, 3, "± 3.0; the difference is within the spread over seeds."),
        (80.0, 1.0, 3, "± 1.0; the difference is larger than the spread over seeds explains."),
    ],
)
def test_the_next_best(other: float, spread: float, n: int, said: str) -> None:
    table = seeds_of({"lora_a": (60.0, spread), "lora_b": (other, spread)}, n)
    lines = all_said(comparison.Errors(table, METRIC), choose(table, METRIC, {}))
    (line,) = (x for x in lines if x.startswith("The next best"))
    assert said in line


def test_what_could_not_be_chosen_is_not_the_next_best() -> None:
    groups = {"lora_a": (60.0, 0.0), "lora_b": (65.0, 0.0), "lora_c": (70.0, 0.0)}
    table = seeds_of({**groups, "lora_c_f0.5": (50.0, 0.0)}, 1)
    choice = choose(table, METRIC, verdicts_of({"lora_a_s0": {"nve": 5.0}}))
    lines = all_said(comparison.Errors(table, METRIC), choice)
    assert choice.point == "lora_b_s0" and "The next best is lora_c with 70.0." in lines


def test_seeds_of_lora_are_not_called_one_for_the_foundation_model_has_none() -> None:
    table = seeds_of({"lora_a": (60.0, 1.0)}, 3)
    both = pd.concat([table, seeds_of({"foundation": (59.0, 0.0)}, 1)])
    lines = all_said(comparison.Errors(both, METRIC), choose(table, METRIC, {}))
    assert not any("With one seed" in x for x in lines)
    (line,) = (x for x in lines if "against foundation" in x)
    assert line.endswith("test 65.0 ± 1.0 against 64.0. LoRA loses to foundation on: test.")


def test_baselines_of_less_data_are_no_rivals() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "full": (70.0, 0.0), "full_f0.5": (80.0, 0.0)}, 1)
    lines = all_said(comparison.Errors(table, METRIC), choose(table, METRIC, {}))
    assert sum("of lora_a against" in x for x in lines) == 1


def test_where_nothing_was_gained_it_is_said_first() -> None:
    for base, said in ((50.0, True), (60.0, True), (90.0, False)):
        table = seeds_of({"lora_a": (60.0, 1.0), "full": (65.0, 1.0), "foundation": (base, 0.0)}, 3)
        lines = all_said(comparison.Errors(table, METRIC), choose(table, METRIC, {}))
        first = "No training is better than the foundation model: "
        assert lines[0].startswith(first) is said
        assert any(line.startswith("Chosen: lora_a_s0") for line in lines)
        assert any(line.startswith("The next best is full with 65.0") for line in lines)


def test_what_was_gained_and_refused_is_not_called_nothing() -> None:
    table = seeds_of({"lora_a": (30.0, 1.0), "lora_b": (60.0, 1.0), "foundation": (60.0, 0.0)}, 3)
    refused = verdicts_of({f"lora_a_s{i}": {"nve": 5.0} for i in range(3)})
    first = all_said(comparison.Errors(table, METRIC), choose(table, METRIC, refused))[0]
    assert first.startswith("The chosen model is no better than the foundation model: ")
    assert first.endswith("Trainings that are were refused by the checks.")


def test_the_best_seed_is_the_best_of_those_that_pass() -> None:
    table = seeds_of({"lora_a": (60.0, 1.0)}, 3)
    errors = comparison.Errors(table, METRIC)
    whole = " ".join(all_said(errors, choose(table, METRIC, {})))
    assert "the mean of 3 seeds, of which lora_a_s0 is the best." in whole
    choice = choose(table, METRIC, verdicts_of({"lora_a_s0": {"nve": 5.0}}))
    said = " ".join(all_said(errors, choice))
    assert "of which lora_a_s1 is the best that passes all checks." in said


def test_a_choice_without_the_long_checks_is_said() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    choice = choose(table, METRIC, verdicts_of({"lora_a_s0": {"nve": 5.0}}), ["lora_a_s0"])
    said = " ".join(all_said(comparison.Errors(table, METRIC), choice))
    assert "of the points that were not put to the thorough checks: these refused all" in said
    assert "that were, lora_a_s0. Raise checks.winners" in said and "pass all checks" not in said


def test_cuts_of_a_training_are_no_trainings() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_a_cut2": (70.0, 0.0)}, 1)
    table["epochs"], table["best_epoch"], table["ended_by"] = 15, 15, "max_num_epochs"
    errors = comparison.Errors(table, METRIC, copies=["lora_a_cut2_s0"])
    assert errors.improving("lora_a", "lora_a_cut2") == (1, 1)
    table["best_epoch"] = 0
    assert errors.unmoved() == (["lora_a_s0"], 1)


def told(table: pd.DataFrame) -> str:
    """Return what is said of LoRA against full fine-tuning, and of forgetting."""
    errors = comparison.Errors(table, METRIC)
    return " ".join(all_said(errors, choose(table, METRIC, {})))


def test_the_winner_is_not_better_where_it_was_tuned_more() -> None:
    """The one rate of full fine-tuning against two settings of LoRA, and against as many."""
    lora = {"lora_a": (149.1, 0.5), "lora_b": (152.0, 0.5)}
    said = told(seeds_of({**lora, "full": (169.8, 0.7)}, 3))
    assert "test 154.1 ± 0.5 against 174.8 ± 0.7 (lower)" in said
    assert "This does not show which is better: LoRA had 2 settings, full fine-tuning 1." in said
    fair = told(seeds_of({**lora, "full": (169.8, 0.7), "full_lr0.01": (173.0, 0.5)}, 3))
    assert "lora_a against full, the best of 2 settings: test" in fair
    assert "(better)" in fair and "does not show" not in fair
    lost = told(seeds_of({**lora, "full": (120.0, 0.7)}, 3))  # with one setting against two
    assert "(worse). LoRA loses to full on: test." in lost


def test_nothing_is_better_that_was_still_improving() -> None:
    table = seeds_of({"lora_a": (60.0, 0.5), "full": (80.0, 0.5)}, 3)
    table["epochs"], table["best_epoch"], table["ended_by"] = 15, 15, "max_num_epochs"
    assert "(better)" not in told(table) and "(lower)" in told(table)
    assert "6 of 6 trainings were still improving in their last epoch: raise" in told(table)
    assert "6 of the 6 trainings compared were still improving at their end" in told(table)
    table["best_epoch"] = 14
    assert "(better)" in told(table) and "still improving" not in told(table)


def test_what_gained_nothing_is_named() -> None:
    """Of the chosen point, that it is what training began with."""
    table = seeds_of({"lora_a": (60.0, 0.5), "lora_b": (80.0, 0.5), "full": (90.0, 0.5)}, 3)
    table["epochs"], table["best_epoch"], table["ended_by"] = 15, 7, "patience"
    assert "before its first epoch" not in told(table) and "never better" not in told(table)
    others = table["group"].isin(["lora_b", "full"])
    table.loc[others, "best_epoch"] = 0
    said = told(table)
    assert "6 of 9 trainings were never better on the validation set than before" in said
    assert "which is kept: full_s0, full_s1, full_s2, lora_b_s0, lora_b_s1, lora_b_s2. " in said
    assert "this is its start" not in said
    table["best_epoch"] = 0
    said = told(table)
    assert "9 of 9 trainings were never" in said
    assert "full_s2, lora_a_s0, lora_a_s1, lora_a_s2 and 3 more. " in said
    assert "It was never better than before its first epoch: this is its start." in said
    table["epochs"] = 0  # nothing was asked for
    assert "never better" not in told(table)


@pytest.mark.long
def test_the_best_of_many_is_corrected_for() -> None:
    """Of sweeps whose settings differ by noise alone, one in twenty may find anything better."""
    rng, found = np.random.default_rng(0), 0
    names = [f"lora_{x}" for x in "abcd"] + ["full", "full_lr1", "full_lr2", "full_lr3"]
    plain = seeds_of(dict.fromkeys(names, (100.0, 0.0)), 3)
    points = list(dict.fromkeys(plain["point"]))
    draws, most = counts.of(60, 200), counts.of(9, 18)
    for _ in range(draws):
        noise = dict(zip(points, rng.normal(0, 5, len(points)), strict=True))
        table = plain.assign(**{METRIC: plain[METRIC] + plain["point"].map(noise)})
        said = told(table)
        found += "(better)" in said or "(worse)" in said or "larger than the spread" in said
    assert found <= most


def test_forgetting_follows_the_seeds() -> None:
    table = seeds_of({"lora_a": (60.0, 1.0), "full": (61.0, 1.0)}, 3)
    errors = comparison.Errors(table, METRIC)

    def said(lora: list[float], full: list[float]) -> list[str]:
        values = {f"lora_a_s{i}": x for i, x in enumerate(lora)}
        values |= {f"full_s{i}": x for i, x in enumerate(full)}
        found = {point: {"forgetting": 100 * value} for point, value in values.items()}
        verdicts = verdicts_of({"foundation": {"forgetting": 100.0}, **found})
        groups = ["full", "lora_a", "full"]  # as where full fine-tuning was chosen
        found = rivals.forgetting(errors, choose(table, METRIC, verdicts), groups)
        assert found == rivals.forgetting(errors, choose(table, METRIC, verdicts), groups[:2])
        return rivals.forgetting(errors, choose(table, METRIC, verdicts), ["lora_a", "full"])

    (line,) = said([4.0, 5.0, 6.0], [5.0, 6.0, 7.0])
    assert line.endswith("multiples of its own: lora_a 5.0 ± 1.0, full 6.0 ± 1.0.")
    _, claim = said([4.0, 4.1, 4.2], [8.0, 8.1, 8.2])
    assert claim == "LoRA forgets less than full fine-tuning, beyond the spread over seeds."
    _, claim = said([8.0, 8.1, 8.2], [4.0, 4.1, 4.2])
    assert claim == "LoRA forgets more than full fine-tuning, beyond the spread over seeds."
