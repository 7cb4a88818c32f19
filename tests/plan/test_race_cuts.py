"""Races that have their lower ranks by cutting: who is cut, in which packs, after which jobs."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from lora.files.sealed import Receipt
from lora.plan.config_race import Polish
from lora.plan.race import Heat
from lora.plan.sweep import Sweep
from tests.plan.test_race import GRID, decide, race
from tests.support import counts
from tests.support.plans import begin, pretend, running

CUT = {"ranks": "cut", "polish": 0.1, "polish_lr": 0.5}


def finished(folder: Path) -> Sweep:
    """A race that has come to its last rung, with one finalist."""
    sweep = begin(race(folder, CUT))
    decide(sweep, 1, "lora_r4_a8")
    return decide(sweep, 2, "lora_r4_a8")


def test_the_highest_rank_races_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sweep = begin(race(tmp_path, CUT))
    line = (
        "race: lora settings race: 2 to epoch 4, 1 to epoch 8, 1 with 2 seeds to epoch 20, then "
        "cut to 2 lower ranks and polished for 2 epochs; 52 of 240 epochs"
    )
    assert line in capsys.readouterr().err.splitlines()
    assert list(sweep.heats["lora"].groups) == ["lora_r4_a1", "lora_r4_a8"]
    assert not [x for x in sweep.points if x.startswith(("lora_r1", "lora_r2"))]
    point = sweep.points["lora_r4_a8_s2_cut2"]
    assert point.settings and point.trains and point.group == "lora_r4_a8_cut2"
    whole = sweep.points["lora_r4_a8_s2"].settings
    assert whole and whole.lr
    assert point.settings == replace(whole, rank=2, max_num_epochs=2, lr=0.5 * whole.lr)
    assert point.origin == "cut from lora_r4_a8_s2, polished for 2 epochs"
    assert not [x for x in sweep.jobs if x.startswith("truncate") or "rank_curve" in x]


def test_cuts_wait_for_what_they_are_cut_from(tmp_path: Path) -> None:
    jobs = begin(race(tmp_path, CUT)).jobs
    for seed in (1, 2):
        needs = jobs[f"train/lora_cut_s{seed}_1"].needs
        assert {"rung/2", f"train/lora_end_s{seed}_1"} <= set(needs)
        assert f"train/lora_end_s{3 - seed}_1" not in needs
        assert f"train/lora_cut_s{seed}_1" in jobs[f"merge/lora_cut_s{seed}_1"].needs
        assert f"train/lora_cut_s{seed}_1" in jobs["choose"].needs
    order = list(jobs)
    assert all(order.index(x) < order.index(key) for key, job in jobs.items() for x in job.needs)


def test_finalists_alone_are_cut(tmp_path: Path) -> None:
    then = finished(tmp_path)
    for seed in (1, 2):
        names = [x.name for x in then.packs[f"lora_cut_s{seed}_1"].points]
        assert names == [f"lora_r4_a8_s{seed}_cut1", f"lora_r4_a8_s{seed}_cut2"]
    never = [x for x, rung in then.stopped.items() if rung == 0]
    assert sorted(never) == sorted(
        ["lora_r4_a1_s2", *(f"lora_r4_a1_s{s}_cut{r}" for s in (1, 2) for r in (1, 2))]
    )
    assert then.tracked == [x for x in then.points if x not in never]
    assert then.cuts == {} and "lora_r4_a8_s1_cut1" in then.trained_points


def test_epochs_are_those_of_every_point(tmp_path: Path) -> None:
    """The epochs of the race and of the polishing, counted point by point."""
    rng = random.Random(0)
    base = begin(race(tmp_path, CUT)).heats["lora"]
    seeds = next(iter(base.groups.values()))
    made = next(iter(base.cuts.values()))
    for _ in range(counts.of(100, 1000)):
        n, ranks = rng.randint(1, 20), rng.randint(1, 4)
        finalists, keep = rng.randint(2, 9), rng.uniform(0.05, 1)
        cuts = {
            f"g{i}": {f"g{i}_{x}": made["lora_r4_a1_cut1"] for x in range(ranks)} for i in range(n)
        }
        rules = replace(base.rules, finalists=finalists, keep=keep, polish=Polish(0.1, 1))
        heat = Heat("lora", {f"g{i}": seeds for i in range(n)}, rules, 20, cuts)
        plain = replace(heat, cuts={}, rules=replace(rules, finalists=-(-finalists // (ranks + 1))))
        for most in (False, True):
            last = heat.sizes(most)[-1]
            assert heat.epochs(most) == plain.epochs(most) + last * ranks * len(seeds) * 2
        assert last * (ranks + 1) >= min(finalists, n * (ranks + 1))
        assert heat.whole == plain.whole * (ranks + 1)


def test_jobs_find_the_plan_that_was_made(tmp_path: Path) -> None:
    made = begin(race(tmp_path, CUT))
    found = Sweep.load(made.layout.plan)
    assert found.packs == made.packs and found.heats == made.heats


@pytest.mark.parametrize("change", [{"polish": 0.2}, {"polish_lr": 0.1}])
def test_another_polishing_runs_what_follows(tmp_path: Path, change: dict) -> None:
    pretend(begin(race(tmp_path, CUT)))
    assert not running(begin(race(tmp_path, CUT)))
    again = running(begin(race(tmp_path, CUT | change)))
    assert {"train/lora_cut_s1_1", "merge/lora_cut_s1_1", "choose"} <= set(again)
    assert not any(x.startswith(("train/lora_rung1", "train/full")) for x in again)


def test_one_setting_of_the_highest_rank_is_cut_all_the_same(tmp_path: Path) -> None:
    sweep = begin(race(tmp_path, CUT, grid=GRID | {"alpha": [1]}))
    assert sweep.heats["lora"].sizes() == [1, 1, 1]
    assert sweep.packs["lora_cut_s1_1"].places == 2


def test_of_one_that_failed_nothing_is_polished_and_nothing_tracked(tmp_path: Path) -> None:
    then = finished(tmp_path)
    before = then.tracked
    for seed, end in ((1, "patience"), (2, "failed")):
        receipt = Receipt(then.layout.receipt("train", f"lora_end_s{seed}_1"))
        receipt.write({f"lora_r4_a8_s{seed}": {"ended_by": end, "seconds": 9.0}})
    again = begin(race(tmp_path, CUT))
    cuts = {"lora_r4_a8_s2_cut1", "lora_r4_a8_s2_cut2"}
    assert {*before} - {*again.tracked} == cuts and "lora_r4_a8_s2" in again.tracked
