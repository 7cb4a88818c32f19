"""The report's modules by themselves: what they say of numbers that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lora.report import committee, summary, words
from lora.selection.choose import choose
from lora.selection.table import setting_of
from lora.selection.verdict import judge


def parity_files(folder: Path, follows: float, n: int = 40) -> list[str]:
    """Four members on n structures of two atoms; the mean's error follows the spread, or not."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=2 * n))  # of each atom
    other = np.exp(rng.normal(size=2 * n))
    error = 3 * np.where(rng.random(2 * n) < follows, spread, other)
    noise = rng.normal(size=(4, 2 * n, 3))
    noise -= noise.mean(axis=0)
    noise /= np.sqrt((noise**2).sum(axis=(0, 2), keepdims=True) / 3)  # spread of each atom: 1
    forces = spread[:, None] * noise + error[:, None] / np.sqrt(3)  # [4, 2 n, 3], reference 0
    paths = []
    for i, member in enumerate(forces):
        rows = {"config_type": "Default", "reference": 0.0}
        energy = pd.DataFrame(
            {"test_set": "test", "structure": range(n), "quantity": "energy", **rows}
        ).assign(predicted=rng.normal(size=n))
        force = pd.DataFrame(
            {"test_set": "test", "structure": np.repeat(range(n), 6), "quantity": "force", **rows}
        ).assign(predicted=member.ravel())
        paths.append(str(folder / f"{i}.parquet"))
        pd.concat([energy, force]).to_parquet(paths[-1])
    return paths


@pytest.mark.parametrize(("follows", "said"), [(1.0, "can serve"), (0.0, "is no uncertainty")])
def test_committee_is_called_an_uncertainty_only_if_it_is(
    tmp_path: Path, follows: float, said: str
) -> None:
    data = committee.read(parity_files(tmp_path, follows))
    measured = committee.measure(data)
    numbers = measured["test"]["force"]
    lines = " ".join(committee.verdict(measured, 4))
    assert said in lines and "Committee of the 4 LoRA points" in lines
    if follows:
        assert numbers["rho"] == pytest.approx(1.0) and numbers["error_to_spread"] == pytest.approx(
            3.0, rel=1e-6
        )
        assert "factor of: test 3.0" in lines
    else:
        assert abs(numbers["rho"]) < 0.4 and lines.endswith("over 0.5 on: test")


def seeds_of(settings: dict[str, tuple[float, float]], n: int) -> pd.DataFrame:
    """A table of points: {setting: (mean, spread)} of the force RMSE, n seeds each, on two sets."""
    rows = []
    for name, (mean, spread) in settings.items():
        for i, step in enumerate(np.linspace(-1, 1, n) if n > 1 else [0.0]):
            row = {"point": f"{name}_s{i}", "method": name.split("_")[0], "ended_by": "patience"}
            row |= {"rank": 4, "alpha": 8.0, "trainable_parameters": 10, "seed": i}
            row["reason"] = None
            row["train_fraction"] = 0.5 if "_f0.5" in name else 1.0
            for test_set, more in {"valid": 0.0, "test": 5.0}.items():
                error = mean + more + spread * step
                errors = {"rmse_f_mev_per_a": error, "rmse_e_mev_per_atom": error / 50}
                rows.append(row | {"test_set": test_set} | errors)
    return pd.DataFrame(rows)


def test_the_choice_is_of_a_setting_and_ships_its_best_seed() -> None:
    # c has the best single point, b the best mean over seeds
    table = seeds_of({"lora_a": (70.0, 1.0), "lora_b": (60.0, 1.0), "lora_c": (62.0, 9.0)}, 3)
    assert choose(table, "rmse_f_mev_per_a", {}, {}) == ("lora_b_s0", "lora_b_s0", {})
    assert setting_of("lora_r4_a0.5_lr0.01_s12_cut2") == "lora_r4_a0.5_lr0.01_cut2"


def test_a_training_that_failed_is_said_and_not_compared() -> None:
    """Neither a mean over seeds nor the choice has its numbers."""
    metric, why = "rmse_f_mev_per_a", "memory ran out in epoch 3"
    table = seeds_of({"lora_a": (60.0, 3.0), "lora_b": (61.0, 0.1), "naive": (10.0, 0.0)}, 3)
    assert choose(table, metric, {}, {})[0] == "naive_s0"
    failed = table["point"].isin(["lora_a_s0", "naive_s0", "naive_s1", "naive_s2"])
    table.loc[failed, ["ended_by", "reason"]] = "failed", why
    table.loc[failed, [metric, "rmse_e_mev_per_atom"]] = np.nan
    best, lora, refused = choose(table, metric, {}, {})
    assert (best, lora, refused) == ("lora_b_s0", "lora_b_s0", {})  # a's seeds left are worse
    errors = words.Errors(table, metric)
    assert errors.settings == ["lora_b", "lora_a"]
    assert errors.of("lora_a", "valid", metric)[::2] == (61.5, 2)
    said = " ".join(words.words(errors, best, lora))
    assert f"Failed, and not compared: lora_a_s0: {why}." in said and "naive_s1" in said
    assert "against naive" not in said and "nan" not in said
    table.loc[table["point"] == "lora_b_s2", ["ended_by", "reason"]] = "diverged", "in epoch 2 ..."
    said = " ".join(words.words(words.Errors(table, metric), best, lora))
    assert "Diverged, best epoch before that shown: lora_b_s2 (in epoch 2 ...)." in said
    shown = summary.points_table(table.assign(train_seconds=1.0, best_epoch=1))
    assert shown.loc["lora_a_s0", "note"] == f"failed: {why}" and not shown.loc["lora_a_s1", "note"]
    assert (
        "nan" not in shown.to_string()
        and "nan" not in summary.settings_table(errors, {}).to_string()
    )


def finding(value: float, limit: float, compare: str) -> dict:
    return {"value": value, "limit": limit, "compare": compare, "unit": "u"} | dict.fromkeys(
        ("meaning", "source"), ""
    )


CHECKS = {
    "foundation": {"forgetting": 100.0, "holes": 2.0, "nve": 0.5},
    "lora_a_s0": {"forgetting": 700.0, "holes": 3.0, "nve": 0.5},
    "lora_b_s0": {"forgetting": 400.0, "holes": 2.0, "nve": 1.5},
    "naive_s0": {"forgetting": 900.0, "holes": 2.0, "nve": 0.1},
    "freeze_s0": {"forgetting": 200.0, "holes": 1.0, "nve": 0.1},
}
KINDS = {"forgetting": (10.0, "ratio"), "holes": (0.0, "excess"), "nve": (1.0, "absolute")}


@pytest.mark.parametrize(
    ("limits", "best", "refused"),
    [
        ({}, "naive_s0", {"lora_a_s0": "holes", "lora_b_s0": "nve"}),
        ({"holes": 1.0}, "lora_a_s0", {"lora_b_s0": "nve"}),
        ({"nve": None}, "lora_b_s0", {"lora_a_s0": "holes"}),  # lifted
        (
            {"forgetting": 3.0},
            "freeze_s0",
            {"lora_a_s0": "forgetting", "lora_b_s0": "forgetting", "naive_s0": "forgetting"},
        ),
    ],
)
def test_the_choice_changes_with_the_limits(limits: dict, best: str, refused: dict) -> None:
    errors = {"lora_a": 60.0, "lora_b": 61.0, "naive": 62.0, "freeze": 90.0, "foundation": 500.0}
    table = seeds_of({name: (error, 0.0) for name, error in errors.items()}, 1)
    table["point"] = table["point"].replace("foundation_s0", "foundation")
    checks = {
        point: {name: finding(value, *KINDS[name]) for name, value in values.items()}
        for point, values in CHECKS.items()
    }
    verdicts = judge(checks, limits)
    chosen, _, failed = choose(table, "rmse_f_mev_per_a", verdicts, {})
    assert chosen == best
    for point, name in refused.items():
        assert name in {one.check for one in failed[point]}
    lines = words.words(words.Errors(table, "rmse_f_mev_per_a"), chosen, "lora_a_s0", failed)
    assert f"Chosen: {best}. Of the points that keep the limits" in lines[0]
    for point, name in refused.items():
        assert any(x.startswith(f"Refused: {point}: ") and name in x for x in lines)


def test_less_data_is_not_chosen() -> None:
    table = seeds_of({"lora_a": (61.0, 0.0), "lora_a_f0.5": (60.0, 0.0)}, 1)
    assert choose(table, "rmse_f_mev_per_a", {}, {})[0] == "lora_a_s0"


def test_only_points_that_had_the_long_checks_can_be_chosen() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    assert choose(table, "rmse_f_mev_per_a", {}, {"lora_b_s0": {}})[0] == "lora_b_s0"


@pytest.mark.parametrize(
    ("error", "kept", "little"), [(70.0, 450.0, True), (70.0, 200.0, False), (55.0, 450.0, False)]
)
def test_replay_with_lora_is_judged_by_the_sweep(error: float, kept: float, little: bool) -> None:
    table = seeds_of({"lora_r4": (60.0, 0.0), "lora_r4_replay": (error, 0.0)}, 1)
    values = {"foundation": 100.0, "lora_r4_s0": 500.0, "lora_r4_replay_s0": kept}
    checks = {p: {"forgetting": finding(v, 10.0, "ratio")} for p, v in values.items()}
    verdicts = judge(checks, {})
    errors = words.Errors(table, "rmse_f_mev_per_a")
    (line,) = words.replay_and_lora(errors, verdicts, "lora_r4_s0")
    assert f"forgetting {kept / 100:.1f} against 5.0 times" in line
    assert ("little sense" in line) == little
    assert words.replay_and_lora(errors, {}, "lora_r4_s0")[0].endswith("(checks.holdout_file).")
    alone = words.Errors(seeds_of({"lora_r4": (60.0, 0.0)}, 1), "rmse_f_mev_per_a")
    assert words.replay_and_lora(alone, verdicts, "lora_r4_s0") == []


def test_where_all_are_refused_it_is_said() -> None:
    table = seeds_of({"lora_a": (60.0, 0.0), "lora_b": (61.0, 0.0)}, 1)
    checks = {f"lora_{x}_s0": {"nve": finding(5.0, 1.0, "absolute")} for x in "ab"}
    verdicts = judge(checks, {})
    best, lora, failed = choose(table, "rmse_f_mev_per_a", verdicts, {})
    assert (best, lora, set(failed)) == ("lora_a_s0", "lora_a_s0", {"lora_a_s0", "lora_b_s0"})
    lines = words.words(words.Errors(table, "rmse_f_mev_per_a"), best, lora, failed)
    assert lines[0].startswith("No point keeps all limits of the checks. Of all, lora_a_s0 has")


@pytest.mark.parametrize(
    ("naive", "spread", "n", "said"),
    [
        (50.0, 1.0, 3, "(worse). LoRA loses to naive on: test"),
        (61.0, 3.0, 3, "test 65.0 ± 3.0 against 66.0 ± 3.0 (equal)."),
        (59.0, 3.0, 3, "test 65.0 ± 3.0 against 64.0 ± 3.0 (equal)."),  # no loss, either
        (70.0, 1.0, 3, "(better)."),
        (59.0, 0.0, 1, "test 65.0 against 64.0. LoRA loses to naive on: test"),
    ],
)
def test_no_claim_inside_the_spread(naive: float, spread: float, n: int, said: str) -> None:
    table = seeds_of({"lora_a": (60.0, spread), "naive": (naive, spread)}, n)
    errors = words.Errors(table, "rmse_f_mev_per_a")
    lines = words.words(errors, "lora_a_s0", "lora_a_s0")
    (line,) = (x for x in lines if "against naive" in x)
    assert said in line and ("loses" in line) == ("loses" in said)
    assert any("One seed only" in x for x in lines) == (n == 1)
