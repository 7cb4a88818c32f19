"""A race that cuts its lower ranks, through the real workflow; kills change nothing."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lora import load_adapter
from lora.cli.status import status
from lora.data.structures import FORCES, load_structures
from lora.files.sealed import read_json
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.sweep import Sweep as Plan
from lora.steps.truncate import truncate
from tests.support.store import all_of
from tests.support.trainings import lines_of
from tests.workflow.test_race import RACE, Raced

pytestmark = pytest.mark.slow
CUT = RACE | {"ranks": "cut"}
GRID = {"rank": [1, 2, 4], "alpha": [0.5, 8], "seed": [1, 2]}
LINE = (
    "race: lora settings race: 2 to epoch 2, 1 to epoch 4, 1 with 2 seeds to epoch 10, then cut to "
    "2 lower ranks and polished for 2 epochs; 30 of 120 epochs"
)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    made = Raced(tmp_path_factory.mktemp("cut"), race=CUT, grid=GRID)
    made.printed = made.run()
    return made


def test_only_the_finalist_is_cut_and_polished(cut: Raced) -> None:
    assert LINE in cut.printed
    (finalist,) = cut.rung(2)["heats"]["lora"]["kept"]
    points = {f"{finalist}_s{seed}{x}" for seed in (1, 2) for x in ("", "_cut1", "_cut2")}
    assert set(cut.trained()) == points
    assert all(len(lines_of(cut.out / "train" / x)) == 3 for x in points if "cut" in x)
    assert not (cut.out / "truncate").exists()
    assert {x.name for x in (cut.out / "merge").glob("lora*")} == points


def test_the_start_is_the_cut(cut: Raced, tmp_path: Path) -> None:
    """Epoch 0 has the errors of the adapter that `truncate` makes, on the whole base."""
    plan = Plan.load(cut.out / "plan.json")
    base = Base(plan.layout.foundation_model)
    valid = load_structures(plan.layout.split("valid"))
    wanted = np.concatenate([x.arrays[FORCES] for x in valid])
    for point in (plan.points[x] for x in cut.trained() if "cut" in x):
        assert point.settings
        adapter = plan.layout.training(point.cut_from) / "adapter"
        truncate(base, adapter, tmp_path / point.name, rank=point.settings.rank)
        model = load_foundation(base.model, None, torch.float64)
        load_adapter(model, tmp_path / point.name / "adapter")
        forces = np.asarray(predict(model, graphs(valid, model))["forces"])
        error = 1e3 * float(np.sqrt(np.mean((forces - wanted) ** 2)))
        lines = lines_of(plan.layout.training(point.name))
        assert lines[0]["valid_rmse_f_mev_per_a"] == pytest.approx(error, rel=1e-9)
        top = lines_of(plan.layout.training(point.cut_from))
        assert abs(error - top[0]["valid_rmse_f_mev_per_a"]) > 1e-6 * error  # it is not the base


def test_cuts_are_candidates_and_labelled(cut: Raced) -> None:
    table = cut.table()
    cuts = table[table["method"] == "cut"]
    assert len(cuts["point"].unique()) == 4 and cuts["rmse_f_mev_per_a"].notna().all()
    plan = Plan.load(cut.out / "plan.json")
    every = (cut.out / "report/sweep.html").read_text()
    for point in cuts["point"]:
        assert f"cut from {plan.points[point].cut_from}, polished for 2 epochs" in every
    valid = table[table["test_set"] == "valid"]
    means = valid.merge(
        pd.Series({x: p.group for x, p in plan.points.items()}, name="group"),
        left_on="point",
        right_index=True,
    )
    means = means[means["point"] != "foundation"].groupby("group")["rmse_f_mev_per_a"].mean()
    chosen = read_json(cut.out / "report/best.json")["point"]
    assert plan.points[chosen].group == means.idxmin()
    page = (cut.out / "report/race.html").read_text()
    finalist = cut.rung(2)["heats"]["lora"]["kept"][0]
    assert f"cut from {finalist}, polished for 2 epochs" in page
    assert "these are no trainings of their ranks from the start" in page
    assert "It took 30 epochs, 25% of the 120 of the grid at full length." in page
    assert re.search(r"In \d+% of 2,000 draws of seeds and rungs lora_\S+ is the best", page)
    database = plan.layout.database
    runs = all_of(f"sqlite:///{database.resolve()}", "mace-lora-sweep")
    assert set(runs) == set(table["point"])
    assert not any(row["state"] == "waiting" for row in status(cut.out))


def test_again_does_nothing(cut: Raced) -> None:
    assert not cut.todo()


STAGES = ["train/packs/lora_end_s1_1.json", "train/packs/lora_end*/checkpoint.pt"]


@pytest.mark.long(only=True)
@pytest.mark.parametrize("until", STAGES)
def test_killed_while_it_polishes(cut: Raced, tmp_path: Path, until: str) -> None:
    sweep = Raced(tmp_path, race=CUT, grid=GRID)
    running = sweep.start()
    sweep.wait_for(f"out/{until}")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    sweep.run("--unlock")
    sweep.run()
    pd.testing.assert_frame_equal(sweep.table(), cut.table())
