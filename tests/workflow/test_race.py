"""A race through the real workflow: survivors are the grid's, and kills change nothing."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from lora.cli.status import status
from lora.files.sealed import read_json
from lora.plan.sweep import Sweep as Plan
from tests.support import counts
from tests.support.store import all_of
from tests.support.sweep import CORES, Sweep, unwrapped
from tests.support.trainings import lines_of

pytestmark = pytest.mark.slow
EPOCHS, SETTINGS, SEEDS = 10, 4, 2
RACE = {"rungs": [0.2, 0.4], "finalists": 2}
CLOSE = 1e-8  # relative
CLOCKS = ["train_seconds", "gpu_hours", "peak_memory_mb", "atoms_per_second"]


class Raced(Sweep):
    """Four settings of two seeds, without checks."""

    def __init__(self, home: Path, **changes: object) -> None:
        super().__init__(home)
        none: dict = {"quick": [], "standard": [], "thorough": [], "holdout_file": None}
        self.config |= {"checks": none, "export": {"engines": []}, "baselines": []}
        self.config |= {"rank_curve": False, "select": {"limits": {}}, "race": RACE}
        self.config["grid"] = {"rank": [1, 2], "alpha": [0.5, 8], "seed": [1, 2]}
        self.config["train"] = {"max_num_epochs": EPOCHS, "batch_size": 3, "lr": 0.01}
        self.config["pack"] = {"size": 4}
        self.config |= changes

    @property
    def out(self) -> Path:
        return self.home / "out"

    def rung(self, n: int) -> dict:
        return read_json(self.out / f"train/rungs/{n}.json")

    def trained(self) -> list[str]:
        """The points that were trained to the end."""
        return sorted(x.parent.name for x in self.out.glob("train/lora_*/train.json"))

    def table(self) -> pd.DataFrame:
        table = pd.read_csv(self.out / "report/sweep.csv")
        return table.drop(columns=CLOCKS, errors="ignore")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    made = Raced(tmp_path_factory.mktemp("grid"), race=False)
    made.run()
    return made


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    made = Raced(tmp_path_factory.mktemp("raced"))
    made.printed = made.run()
    return made


def apart(one: Path, other: Path) -> float:
    """The largest relative difference of the losses and the adapters of two trainings."""
    a, b = ([x["valid_loss"] for x in lines_of(folder)] for folder in (one, other))
    found = [np.abs(np.subtract(a, b)).max() / max(a)]
    a, b = (load_file(x / "adapter/adapter.safetensors") for x in (one, other))
    found += [np.abs(a[x] - b[x]).max() / max(np.abs(a[x]).max(), 1e-300) for x in a]
    return float(max(found))


def test_survivors_are_the_points_of_the_grid(raced: Raced, grid: Raced) -> None:
    assert len(grid.trained()) == SETTINGS * SEEDS
    assert len(raced.trained()) == 2 * SEEDS
    for point in raced.trained():
        assert apart(raced.out / "train" / point, grid.out / "train" / point) < CLOSE
    epochs = [len(lines_of(x)) - 1 for x in raced.out.glob("train/rungs/*/lora_*")]
    assert sorted(epochs) == [2] * SETTINGS + [4] * 2


def test_who_goes_on_had_the_lower_errors(raced: Raced, grid: Raced) -> None:
    """By the curves of the grid, with the first seed, up to the rung."""
    plan = Plan.load(raced.out / "plan.json")
    left = list(plan.heats["lora"].groups)
    for number, epoch in ((1, 2), (2, 4)):
        found = raced.rung(number)["heats"]["lora"]
        scores = {}
        for group in left:
            lines = lines_of(grid.out / "train" / f"{group}_s1")[: epoch + 1]
            best = min(lines, key=lambda x: x["valid_loss"])
            scores[group] = np.log(best["valid_rmse_f_mev_per_a"])
        order = sorted(scores, key=scores.__getitem__)
        assert set(found["kept"]) == set(order[:2]) and found["epoch"] == epoch
        assert found["scores"] == pytest.approx(scores, rel=1e-6)
        left = order[:2]


def test_the_choice_is_among_those_that_ran_to_the_end(raced: Raced, grid: Raced) -> None:
    table, whole = raced.table(), grid.table()
    ends = table.groupby("point")["ended_by"].first()
    stopped = ends[ends == "stopped"]
    assert len(stopped) == 2 and set(stopped.index) | set(raced.trained()) < set(whole["point"])
    errors = ["rmse_e_mev_per_atom", "rmse_f_mev_per_a"]
    assert table.loc[table["ended_by"] == "stopped", errors].isna().all().all()
    reasons = table.groupby("point")["reason"].first()[stopped.index]
    assert reasons.str.contains("at epoch 2 of 10, .* % above the best of 4, of which 2").all()
    both = table.set_index(["point", "test_set"])[errors].dropna()
    theirs = whole.set_index(["point", "test_set"])[errors].loc[both.index]
    assert np.allclose(both, theirs, rtol=1e-6)
    chosen = read_json(raced.out / "report/best.json")["point"]
    assert chosen in raced.trained()
    assert {x.name for x in (raced.out / "merge").glob("lora*")} == set(raced.trained())


def test_status_shows_who_is_out(raced: Raced) -> None:
    rows = {row["point"]: row for row in status(raced.out)}
    stopped = [f"{x}_s1" for x in raced.rung(1)["heats"]["lora"]["stopped"]]
    assert {x for x, row in rows.items() if row["state"] == "out"} == set(stopped)
    for x in stopped:
        assert rows[x]["epoch"] == 2 and rows[x]["note"] == "stopped at rung 1 of the race"
    assert {rows[x]["state"] for x in raced.trained()} == {"evaluated"}
    assert {rows[x]["epoch"] for x in raced.trained()} == {EPOCHS}


def test_the_report_says_who_was_stopped_when_and_why(raced: Raced) -> None:
    race = (raced.out / "report/race.html").read_text()
    found = raced.rung(1)["heats"]["lora"]
    assert len(found["stopped"]) == 2
    for group, why in found["stopped"].items():
        assert group in race and why in race
    said = (
        "Race of 4 lora settings: 2 were stopped (2 after epoch 2 of 10); 2 were trained to the "
        "end with all seeds. It took 44 epochs, 55% of the 80 of the grid at full length."
    )
    for text in (race, raced.printed, (raced.out / "report/choice.html").read_text()):
        whole = unwrapped(text)
        assert said in whole
        assert re.search(r"In \d+% of 2,000 draws of seeds and rungs lora_\S+ is the best", whole)
    numbers = pd.read_csv(raced.out / "report/race.csv", index_col=0)
    assert set(numbers.index) == {*found["stopped"], *found["kept"]}
    curves = (
        pd.read_csv(raced.out / "report/figures/learning_curves.csv")
        .groupby("point")["epoch"]
        .max()
    )
    for group in found["stopped"]:
        assert curves[f"{group}_s1"] == 2 and f"{group}_s2" not in curves


def copied(raced: Raced, home: Path, **changes: object) -> Raced:
    """The same sweep with the same results in another folder."""
    copy = Raced(home, **changes)
    shutil.copytree(raced.out, copy.out)
    return copy


def test_again_does_nothing_and_in_a_copy_neither(raced: Raced, tmp_path: Path) -> None:
    assert not raced.todo() and not copied(raced, tmp_path).todo()


def test_the_store_has_who_was_stopped_and_when(raced: Raced) -> None:
    database = Plan.load(raced.out / "plan.json").layout.database
    found = all_of(f"sqlite:///{database.resolve()}", "mace-lora-sweep")
    table = raced.table()
    assert set(found) == set(table["point"])
    stopped = set(table.loc[table["ended_by"] == "stopped", "point"])
    for point, run in found.items():
        epochs = 2 if point in stopped else EPOCHS
        assert point == "foundation" or len(run["loss"]) == epochs + 1
        assert run["status"] == "FINISHED" and len(run["ids"]) == 1


def test_more_finalists_train_only_what_is_missing(
    raced: Raced, grid: Raced, tmp_path: Path
) -> None:
    more = copied(raced, tmp_path, race=RACE | {"finalists": 3})
    before = {x: lines_of(more.out / "train" / x)[-1]["timestamp"] for x in more.trained()}
    more.run()
    assert len(more.trained()) == 3 * SEEDS
    for point, stamp in before.items():
        assert lines_of(more.out / "train" / point)[-1]["timestamp"] == stamp
    for point in more.trained():
        assert apart(more.out / "train" / point, grid.out / "train" / point) < CLOSE


@pytest.mark.long(only=True)
def test_a_race_in_which_all_are_kept_is_the_grid(grid: Raced, tmp_path: Path) -> None:
    every = Raced(tmp_path, race=RACE | {"margin": 1e9})
    every.run()
    assert every.trained() == grid.trained()
    for point in every.trained():
        assert apart(every.out / "train" / point, grid.out / "train" / point) < CLOSE
    pd.testing.assert_frame_equal(every.table(), grid.table(), rtol=1e-5)


def test_a_setting_over_a_limit_at_a_rung_is_stopped(raced: Raced, tmp_path: Path) -> None:
    """Whatever its error is; of those that are left the best go on, with the same trainings."""
    best = raced.rung(1)["heats"]["lora"]["kept"]
    checked = Raced(tmp_path, race=RACE | {"checks": ["gradients"]})
    limits = {"gradients": 1e3}
    checked.config["select"] = {"limits": limits}
    checked.run("--until", "rung")
    found = read_json(checked.out / "train/rungs/1_checks.json")
    scores = raced.rung(1)["heats"]["lora"]["scores"]
    assert set(found) == {"foundation", *(f"{x}_s1" for x in scores)}
    assert not (checked.out / "train/rungs/1_checks").exists()  # the models
    assert checked.rung(1) == raced.rung(1)  # all keep it
    values = {x: one["checks"]["gradients"]["value"] for x, one in found.items() if "_s1" in x}
    assert not list(checked.home.glob("out/merge/lora*"))
    # a limit between two of them, so that some are over it
    ordered = sorted(values, key=values.__getitem__)
    assert values[ordered[0]] < values[ordered[-1]]
    limits["gradients"] = (values[ordered[-2]] + values[ordered[-1]]) / 2
    checked.run("--until", "rung")
    over = ordered[-1].removesuffix("_s1")
    lora = checked.rung(1)["heats"]["lora"]
    assert over not in lora["kept"] and lora["scores"][over] is None
    assert re.match(
        r"at epoch 2 of 10 it was over a limit: gradients .* limit", lora["stopped"][over]
    )
    rest = [x for x in raced.rung(1)["heats"]["lora"]["scores"] if x != over]
    assert set(lora["kept"]) == set(rest[:2]) and (over in best) == (set(lora["kept"]) != set(best))
    limits["gradients"] = 0.0  # too few are left without it: the best go on all the same
    checked.run("--until", "rung")
    assert set(checked.rung(1)["heats"]["lora"]["kept"]) == set(best)


MODULE = """
import yaml

module sweep:
    snakefile: "{home}/workflow/Snakefile"
    config: yaml.safe_load(open("my.yaml"))

use rule * from sweep
"""


@pytest.mark.long(only=True)
def test_inside_a_module(raced: Raced, tmp_path: Path) -> None:
    """A workflow of the user's own that uses ours, in a folder of its own."""
    mine = Raced(tmp_path / "clone")
    home = tmp_path / "mine"
    home.mkdir()
    (home / "Snakefile").write_text(MODULE.format(home=mine.home))
    (home / "my.yaml").write_text(yaml.safe_dump(mine.config))
    for name in ("base.model", "data.xyz", "hot.xyz"):
        shutil.copy(mine.home / name, home)
    command = ["snakemake", "--until", "choose", *CORES]
    env = mine.environment()
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    tables = [pd.read_csv(x / "out/report/sweep.csv") for x in (home, raced.home)]
    pd.testing.assert_frame_equal(*(x.drop(columns=CLOCKS, errors="ignore") for x in tables))


@pytest.mark.long(only=True)
def test_packs_for_which_nobody_is_left(raced: Raced, tmp_path: Path) -> None:
    """There is room for what is within the noise, and nothing is: the same race."""
    room = Raced(tmp_path, race=RACE | {"margin": 1e-9}, pack={"size": 2})
    room.run("--until", "choose")
    empty = [x for x in room.out.glob("train/packs/*.json") if not read_json(x)]
    assert len(empty) == 3  # of the second leg, and of the end for two seeds
    pd.testing.assert_frame_equal(room.table(), raced.table())


STAGES = [
    "train/packs/lora_rung1*/checkpoint.pt",
    "train/packs/lora_rung2*/checkpoint.pt",
    "train/rungs/1.json",
    "train/rungs/2.json",
    "train/packs/lora_end*/checkpoint.pt",
]


@pytest.mark.long
@pytest.mark.parametrize("until", STAGES if counts.full() else STAGES[1:2])
def test_killed_in_every_stage(raced: Raced, tmp_path: Path, until: str) -> None:
    sweep = Raced(tmp_path)
    running = sweep.start()
    sweep.wait_for(f"out/{until}")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    sweep.run("--unlock")
    sweep.run()
    pd.testing.assert_frame_equal(sweep.table(), raced.table())
