"""A race that cuts its lower ranks, through the real workflow; kills change nothing."""

import os
import re
import signal
from pathlib import Path

import pandas as pd
import pytest

from lora.cli.status import status
from lora.files.sealed import read_json
from lora.plan.sweep import Sweep as Plan
from tests.support import counts
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


def test_the_start_is_the_better_the_higher_the_rank(cut: Raced) -> None:
    """Epoch 0 of a polishing is the cut: between the base and the training that was cut."""
    for point in (x for x in cut.trained() if "cut" not in x):
        top = lines_of(cut.out / "train" / point)
        base, best = top[0]["valid_loss"], min(x["valid_loss"] for x in top)
        one, two = (
            lines_of(cut.out / "train" / f"{point}_cut{x}")[0]["valid_loss"] for x in (1, 2)
        )
        assert best < two < one < base


def test_cuts_are_candidates_and_labelled(cut: Raced) -> None:
    table = cut.table()
    cuts = table[table["method"] == "cut"]
    assert len(cuts["point"].unique()) == 4 and cuts["rmse_f_mev_per_a"].notna().all()
    plan = Plan.load(cut.out / "plan.json")
    for point, origin in zip(cuts["point"], cuts["origin"], strict=True):
        source = plan.points[point].cut_from
        assert origin == f"cut from {source}, polished for 2 epochs"
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


STAGES = ["train/packs/lora_cut*/checkpoint.pt", "train/packs/lora_end*/checkpoint.pt"]


@pytest.mark.parametrize("until", STAGES if counts.full() else STAGES[:1])
def test_killed_while_it_polishes(cut: Raced, tmp_path: Path, until: str) -> None:
    sweep = Raced(tmp_path, race=CUT, grid=GRID)
    running = sweep.start()
    sweep.wait_for(f"out/{until}")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    sweep.run("--unlock")
    sweep.run()
    pd.testing.assert_frame_equal(sweep.table(), cut.table())
