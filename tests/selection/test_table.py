"""The table of points, from results folders made in code."""

from pathlib import Path

import pandas as pd
import pytest

from lora.catalogue.columns import ROWS
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json
from lora.plan.sweep import Sweep
from lora.selection.results import read_results
from lora.selection.table import NAMES, copied, make_table, read_table
from lora.steps.choose import choose
from lora.steps.shortlist import shortlist
from tests.support.results import make_sweep, write_results

HEADER = (
    "point,method,rank,alpha,scaling,seed,train_fraction,n_train,trainable_parameters,"
    "total_parameters,test_set,rmse_e_mev_per_atom,rmse_f_mev_per_a,mae_e_mev_per_atom,"
    "mae_f_mev_per_a,train_seconds,gpu_hours,epochs,best_epoch,ended_by,peak_memory_mb,reason"
)
ERRORS = {"lora_r2_a8_s3": 70.0, "lora_r4_a8_s3": 1 / 3 + 60, "full_s3": 65.0, "foundation": 500.0}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return make_sweep(tmp_path)


def table_of(sweep: Sweep) -> pd.DataFrame:
    return make_table(sweep.points, read_results(sweep, "choose"))


def decide(sweep: Sweep) -> dict:
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    content: dict = read_json(sweep.layout.receipt("choose"))
    return content


def test_sweep_csv_is_written_digit_by_digit(sweep: Sweep) -> None:
    write_results(sweep, ERRORS)
    assert decide(sweep)["point"] == "lora_r4_a8_s3"
    lines = sweep.layout.table.read_text().splitlines()
    assert lines[0] == HEADER
    assert lines[3] == (
        "lora_r4_a8_s3,lora,4,8,mace,3,1,40,400,84608,valid,1.20667,60.3333,0.861905,42.2333,"
        "16.5,0,3,3,patience,700,"
    )
    assert lines[6] == (
        "full_s3,full,,,,3,1,40,10000,94208,test,1.4,70,1,49,112.5,0,3,3,patience,700,"
    )
    assert lines[7] == ("foundation,foundation,,,,,,,0,,valid,10,500,7.14286,350,,,,,,,")
    assert len(lines) == 1 + 2 * 4


def test_the_table_read_back_is_the_table(sweep: Sweep) -> None:
    write_results(sweep, ERRORS)
    decide(sweep)
    made, read = table_of(sweep), read_table(sweep)
    assert list(read.columns) == list(made.columns) and list(read.columns)[-3:] == NAMES
    for column in made.columns:
        left, right = made[column].reset_index(drop=True), read[column]
        if pd.api.types.is_numeric_dtype(right) and column != "reason":
            pd.testing.assert_series_equal(
                left.astype(float), right.astype(float), check_dtype=False, rtol=1e-5
            )
        elif column != "reason":
            assert left.fillna("").tolist() == right.fillna("").tolist()


@pytest.mark.parametrize("name", ["NA", "null", "None", "600"])
def test_a_set_keeps_its_name(sweep: Sweep, name: str) -> None:
    write_results(sweep, ERRORS)
    decide(sweep)
    table = sweep.layout.table
    table.write_text(table.read_text().replace(",test,", f",{name},"))
    assert read_table(sweep)["test_set"].tolist() == ["valid", name] * len(ERRORS)


def test_every_column_of_the_catalogue_is_there_but_errors_that_nobody_has(sweep: Sweep) -> None:
    write_results(sweep, ERRORS)
    table = table_of(sweep)
    expected = [x.key for x in ROWS if not ((x.error and "stress" in x.key) or x.varied)]
    assert list(table.columns) == [*expected, *NAMES]
    filled = table.dropna(axis="columns", how="all").columns
    assert set(expected) - set(filled) == {"reason"}


def test_names_come_from_the_plan(tmp_path: Path) -> None:
    grid = {"rank": [2, 4], "alpha": [8], "seed": [3, 12], "train_fraction": [0.5, 1]}
    grid |= {"replay": [False, True], "keep": [False, True]}
    replay = {"file": "replay.xyz"}
    made = make_sweep(tmp_path, grid=grid, replay=replay, rank_curve=True)
    write_results(made, {name: 60.0 + i for i, name in enumerate(made.points)})
    names = table_of(made).drop_duplicates("point").set_index("point")[NAMES]
    assert names.loc["lora_r4_a8_replay_f0.5_s12"].tolist() == [
        *("lora_r4_a8_replay_f0.5", "lora_r4_a8_f0.5", "lora_r4_a8_replay")
    ]
    assert names.loc["lora_r4_a8_replay_keep_s3"].tolist() == [
        *("lora_r4_a8_replay_keep", "lora_r4_a8", "lora_r4_a8_replay_keep")
    ]
    assert names.loc["lora_r4_a8_s3_cut2"].tolist() == ["lora_r4_a8_cut2"] * 3
    assert names.loc["full_f0.5_s3"].tolist() == ["full_f0.5", "full_f0.5", "full"]
    assert names.loc["foundation"].tolist() == ["foundation"] * 3


def test_a_cut_has_fewer_numbers_and_the_training_of_its_origin(tmp_path: Path) -> None:
    made = make_sweep(tmp_path, rank_curve=True, baselines=[])
    write_results(made, {name: 60.0 + i for i, name in enumerate(made.points)})
    cut = table_of(made).set_index("point").loc["lora_r4_a8_s3_cut2"].iloc[0]
    assert (cut["method"], cut["rank"], cut["trainable_parameters"]) == ("cut", 2, 200)
    assert (cut["total_parameters"], cut["train_seconds"]) == (84608, 16.5)


def test_cuts_that_are_polished_have_trainings_of_their_own(tmp_path: Path) -> None:
    made = make_sweep(tmp_path / "cut", rank_curve=True, baselines=[])
    assert copied(made.points) == ["lora_r4_a8_s3_cut2"]
    grid = {"rank": [2, 4, 8], "alpha": [8, 16], "seed": [3]}
    raced = make_sweep(tmp_path / "race", grid=grid, race={"ranks": "cut"}, baselines=[])
    assert copied(raced.points) == [] and any(x.polished for x in raced.points.values())


def test_gpu_hours_count_the_gpus_of_a_training(tmp_path: Path) -> None:
    made = make_sweep(tmp_path, train={"device": "cuda"})
    write_results(made, ERRORS)
    table = make_table(made.points, read_results(made, "choose"), gpus=4).set_index("point")
    assert table.loc["lora_r2_a8_s3", "gpu_hours"].tolist() == [14.5 * 4 / 3600] * 2


@pytest.mark.parametrize("leftovers", [False, True])
def test_a_training_that_failed_has_its_reason_and_no_errors(sweep: Sweep, leftovers: bool) -> None:
    """Whether or not it was evaluated all the same."""
    checks = {name: {"nve": 0.1} for name in ERRORS}
    write_results(sweep, ERRORS, ["lora_r4_a8_s3"], checks, leftovers)
    made = decide(sweep)
    assert made["point"] == "full_s3" and made["lora"] == "lora_r2_a8_s3"
    assert set(made["verdicts"]) == {"lora_r2_a8_s3", "full_s3"}
    table = read_table(sweep).set_index("point")
    failed = table.loc["lora_r4_a8_s3"]
    assert failed["test_set"].tolist() == ["valid", "test"]
    assert failed["rmse_f_mev_per_a"].isna().all() and failed["mae_e_mev_per_atom"].isna().all()
    assert set(failed["ended_by"]) == {"failed"}
    assert set(failed["reason"]) == {"memory ran out in epoch 3"}
    assert table.loc["full_s3", "rmse_f_mev_per_a"].notna().all()


def test_a_cut_of_a_training_that_failed_is_left_out(tmp_path: Path) -> None:
    made = make_sweep(tmp_path, rank_curve=True)
    errors = {name: 60.0 + i for i, name in enumerate(made.points)}
    write_results(made, errors, ["lora_r4_a8_s3"])
    decide(made)
    table = read_table(made).set_index("point")
    assert table.loc["lora_r4_a8_s3_cut2", "rmse_f_mev_per_a"].isna().all()


@pytest.mark.parametrize("leftovers", [False, True])
def test_where_every_training_failed_it_is_said(tmp_path: Path, leftovers: bool) -> None:
    made = make_sweep(tmp_path, baselines=["full"])
    trained = list(made.points)
    write_results(made, ERRORS, trained, leftovers=leftovers)
    with pytest.raises(UserError, match="every training failed: memory ran out in epoch 3"):
        decide(made)
    assert made.layout.table.is_file()


def test_the_shortlist_holds_the_best_of_each_group_and_the_foundation(tmp_path: Path) -> None:
    made = make_sweep(
        tmp_path, grid={"rank": [2, 4], "alpha": [8], "seed": [1, 2]}, checks={"winners": 2}
    )
    errors = {"lora_r2_a8_s1": 61.0, "lora_r2_a8_s2": 60.0, "lora_r4_a8_s1": 50.0}
    errors |= {"lora_r4_a8_s2": 90.0, "full_s1": 66.0, "full_s2": 67.0, "foundation": 40.0}
    write_results(made, errors, checks={"full_s1": {"nve": 5.0}})
    receipt = Receipt(made.layout.receipt("shortlist"))
    shortlist(made, receipt)
    models = read_json(receipt.path)["models"]
    assert list(models) == ["lora_r2_a8_s2", "full_s2", "foundation"]
    assert models["full_s2"] == str(made.layout.model("full_s2"))
