"""Races in the plan: who competes, in which legs and packs, and for how many epochs."""

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora.errors import UserErrors
from lora.files.sealed import Receipt, read_json, read_seal
from lora.plan import freshness
from lora.plan.layout import Layout, find_receipt
from lora.plan.race import Heat, assign
from lora.plan.start import Start
from lora.plan.sweep import Sweep
from lora.steps.jobs import Call, Given, _take_over
from tests.support import counts
from tests.support.plans import begin, config, pretend, running

GRID = {"rank": [1, 2, 4], "alpha": [1, 8], "seed": [1, 2]}
EPOCHS = {"train": {"max_num_epochs": 20}}


def race(folder: Path, rules: Any = True, **changes: Any) -> dict[str, Any]:
    return config(folder, race=rules, **({"grid": GRID} | EPOCHS | changes))


def kept(heat: Heat, *groups: str) -> dict[str, Any]:
    """What the file of a rung says of who went on; the reasons do not count here."""
    stopped = {x: "behind" for x in heat.groups if x not in groups}
    return {"kept": list(groups), "stopped": stopped, "epoch": 1, "scores": {}}


def decide(sweep: Sweep, rung: int, *groups: str) -> Sweep:
    """Write the file of a rung, and read the plan again."""
    heat = sweep.heats["lora"]
    packs = assign(heat, rung + 1, groups, sweep.packs)
    receipt = sweep.layout.receipt("rung", str(rung))
    made_of = read_seal(receipt).get("stamp") if receipt.is_file() else None
    Receipt(receipt, made_of).write({"heats": {"lora": kept(heat, *groups)}, "packs": packs})
    return Sweep.load(sweep.layout.plan)


def test_without_a_race_nothing_is_another(tmp_path: Path) -> None:
    off = begin(race(tmp_path, rules=False))
    assert not off.heats and not any("rung" in x for x in off.jobs)
    assert not any(pack.leg for pack in off.packs.values())


def test_legs_and_packs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sweep = begin(race(tmp_path))
    line = (
        "race: lora settings race: 6 to epoch 4, 3 to epoch 8, 2 with 2 seeds to epoch 20; "
        "100 of 240 epochs"
    )
    assert line in capsys.readouterr().err.splitlines()
    legs = {name: pack.leg for name, pack in sweep.packs.items() if pack.leg}
    assert {x: (leg.number, leg.after, leg.until, leg.seed) for x, leg in legs.items()} == {
        "lora_rung1_s1_1": (1, 0, 4, 1),
        "lora_rung1_s1_2": (1, 0, 4, 1),
        "lora_rung1_s1_3": (1, 0, 4, 1),
        "lora_rung2_s1_1": (2, 4, 8, 1),
        "lora_rung2_s1_2": (2, 4, 8, 1),
        "lora_end_s1_1": (3, 8, None, 1),
        "lora_end_s2_1": (3, 8, None, 2),
    }
    assert sum(pack.places for pack in sweep.packs.values() if pack.leg) == 6 + 3 + 2 * 2
    first = [x.name for pack in sweep.packs.values() for x in pack.points if pack.leg]
    assert sorted(first) == sorted(x for x in sweep.points if x.startswith("lora") and "s1" in x)
    ends = {x.split("/")[1] for x in sweep.jobs if x.startswith("merge/")}
    assert ends == {"lora_end_s1_1", "lora_end_s2_1", "full_1", "foundation"}  # of both seeds


def test_who_waits_for_whom(tmp_path: Path) -> None:
    jobs = begin(race(tmp_path)).jobs
    assert "rung/1" in jobs["train/lora_rung2_s1_1"].needs
    assert "rung/2" in jobs["train/lora_end_s2_1"].needs
    assert not any(x.startswith("rung") for x in jobs["train/lora_rung1_s1_1"].needs)
    assert {x for x in jobs["rung/1"].needs if "train" in x} == {
        f"train/lora_rung1_s1_{i}" for i in (1, 2, 3)
    }
    assert not any("full" in x for x in (*jobs["rung/1"].needs, *jobs["rung/2"].needs))
    for page in ("choose", "shortlist", "report/summary", "track"):
        assert {"rung/1", "rung/2", "train/lora_rung1_s1_1"} <= set(jobs[page].needs)


def test_a_rung_fills_the_packs_of_the_next_leg(tmp_path: Path) -> None:
    sweep = begin(race(tmp_path))
    groups = list(sweep.heats["lora"].groups)
    then = decide(sweep, 1, *groups[3:])
    filled = [[x.name for x in then.packs[f"lora_rung2_s1_{i}"].points] for i in (1, 2)]
    assert filled == [[f"{groups[3]}_s1", f"{groups[4]}_s1"], [f"{groups[5]}_s1"]]
    then = decide(sweep, 2, groups[3], groups[5])
    for seed in (1, 2):
        names = [x.name for x in then.packs[f"lora_end_s{seed}_1"].points]
        assert names == [f"{groups[3]}_s{seed}", f"{groups[5]}_s{seed}"]
    rungs = {x: then.stopped.get(f"{x}_s1") for x in groups}
    assert rungs == dict(zip(groups, [1, 1, 1, None, 2, None], strict=True))
    assert {then.stopped.get(f"{x}_s2") for x in (groups[0], groups[4])} == {0}
    assert not then.began(f"{groups[0]}_s2") and f"{groups[0]}_s2" not in then.tracked
    layout = then.layout
    assert then.training(f"{groups[4]}_s1") == layout.training(f"{groups[4]}_s1", 2)
    assert then.training(f"{groups[5]}_s2") == layout.training(f"{groups[5]}_s2")


def count(heat: Heat, most: bool) -> int:
    """The epochs of a race, counted point by point."""
    done: dict[tuple[int, int], int] = {}
    for leg, n in enumerate(heat.sizes(most), start=1):
        for place, seed in itertools.product(range(n), heat.seeds_of(leg)):
            done[place, seed] = heat.epoch(leg)
    return sum(done.values())


def test_epochs_are_those_of_every_point(tmp_path: Path) -> None:
    rng = random.Random(0)
    base = begin(race(tmp_path)).heats["lora"]
    for _ in range(counts.of(200, 2000)):
        n, seeds, n_rungs = rng.randint(3, 40), rng.randint(1, 5), rng.randint(1, 4)
        shares = tuple(sorted(rng.uniform(0.01, 0.99) for _ in range(n_rungs)))
        after = rng.choice([None, *range(n_rungs + 1)])
        rules = type(base.rules)(
            shares, rng.uniform(0.05, 1), rng.randint(2, 6), rng.random(), after
        )
        point = next(iter(base.groups.values()))[1]
        groups = {f"g{i}": dict.fromkeys(range(seeds), point) for i in range(n)}
        heat = Heat("lora", groups, rules, rng.randint(1, 100))
        for most in (False, True):
            assert heat.epochs(most) == count(heat, most)
        assert heat.epochs() <= heat.epochs(most=True) <= heat.whole
        assert min(heat.sizes()) >= 2 and sorted(heat.sizes(), reverse=True) == heat.sizes()


def test_each_method_with_enough_settings_races(tmp_path: Path) -> None:
    rates = {"full": {"lr": [0.1, 0.01, 0.001]}}
    sweep = begin(race(tmp_path, methods=rates, baselines=["full", "freeze"]))
    assert {x: len(heat.groups) for x, heat in sweep.heats.items()} == {"lora": 6, "full": 3}
    full = [pack for pack in sweep.packs.values() if pack.leg and pack.leg.heat == "full"]
    assert all(pack.places == 1 for pack in full) and len(full) == 3 + 2 + 2 * 2
    assert "freeze_s1" in sweep.packs and not sweep.packs["freeze_s1"].leg


def test_a_grid_no_larger_than_the_final_does_not_race(tmp_path: Path) -> None:
    grid = {"rank": [1, 2], "alpha": [1], "seed": [1, 2]}
    raced, whole = (begin(race(tmp_path, x, grid=grid)) for x in (True, False))
    assert not raced.heats and raced.packs == whole.packs


def test_seeds_come_in_when_the_config_says(tmp_path: Path) -> None:
    for after, seeds in {0: [2, 2, 2], 1: [1, 2, 2], 2: [1, 1, 2]}.items():
        heat = begin(race(tmp_path, {"seeds_after": after})).heats["lora"]
        assert [len(heat.seeds_of(leg)) for leg in (1, 2, 3)] == seeds


def test_within_the_noise_up_to_twice_as_many_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sweep = begin(race(tmp_path, {"margin": 1}))
    assert (
        "6 to epoch 4, 3 to 6 to epoch 8, 2 to 4 with 2 seeds to epoch 20; 100 to 176 of 240"
        in (capsys.readouterr().err)
    )
    heat = sweep.heats["lora"]
    then = decide(sweep, 1, *list(heat.groups)[:4])  # one pack of two, and one of two, and none
    sizes = [len(then.packs[f"lora_rung2_s1_{i}"].points) for i in (1, 2, 3)]
    assert sizes == [2, 2, 0]


def test_after_a_race_nothing_runs_and_a_setting_of_it_runs_what_follows(tmp_path: Path) -> None:
    raw = race(tmp_path)
    pretend(begin(raw))
    assert not running(begin(raw))
    more = begin(race(tmp_path, {"finalists": 3}))
    again = {x for x in running(more) if x.startswith(("train", "rung"))}
    assert not any("rung1" in x for x in again)
    assert {"rung/1", "rung/2", "train/lora_end_s1_1"} <= again
    assert not any("full" in x for x in again)


def test_changed_code_that_is_kept_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(begin(race(tmp_path)))
    code, steps = freshness.code_of, {"lora.steps.train", "lora.steps.rung"}

    def changed(*modules: str) -> str:
        return code(*modules) + ("x" if steps & set(modules) else "")

    monkeypatch.setattr(freshness, "code_of", changed)
    again, kept = (
        running(begin(race(tmp_path) | {"on_upgrade": choice})) for choice in ("retrain", "keep")
    )
    assert {"rung/1", "train/lora_rung1_s1_1"} <= set(again)
    assert not any(x.startswith(("train", "rung")) for x in kept)


def test_what_a_grid_says_of_points_that_train_in_a_race_is_deleted(tmp_path: Path) -> None:
    """They have the same folders, so that the files would be of one and the receipt of another."""
    begin(race(tmp_path, rules=False))
    pretend(begin(race(tmp_path, rules=False)))
    sweep = begin(race(tmp_path))
    layout = sweep.layout
    old = sorted((layout.results / "train/packs").glob("lora_s1_*.json"))
    assert len(old) == 3
    job = sweep.jobs["train/lora_end_s1_1"]
    points = tuple(sweep.points[x] for x in read_json(old[0]))
    pack = replace(sweep.packs["lora_end_s1_1"], points=points[:1])
    _take_over(Call(sweep, job, Given(), Receipt(job.receipt)), pack, 1)
    assert all(path.is_file() for path in old)  # what stands at a rung has a folder of its own
    _take_over(Call(sweep, job, Given(), Receipt(job.receipt)), pack, 0)
    assert [path.is_file() for path in old] == [False, True, True]
    assert layout.receipt("train", "full_s1").is_file()


def test_another_number_of_cores_leaves_the_packs_as_they_are(tmp_path: Path) -> None:
    """`snakemake -n` has one core, and the machine that goes on may have many."""
    raw = race(tmp_path, pack={"size": "auto"})
    pretend(begin(raw))
    for cores in (1, 16):
        again = Sweep.begin(raw, Start(cores=cores))
        assert not running(again)


def test_a_larger_grid_keeps_the_packs_of_the_first_leg(tmp_path: Path) -> None:
    pretend(begin(race(tmp_path)))
    again = running(begin(race(tmp_path, grid=GRID | {"rank": [1, 2, 4, 8]})))
    first = {x for x in again if x.startswith("train/lora_rung1")}
    assert first == {"train/lora_rung1_s1_4"} and "rung/1" in again


def test_jobs_find_the_plan_that_was_made(tmp_path: Path) -> None:
    raw = race(tmp_path, {"margin": 2, "rungs": [0.5]})
    made = begin(raw)
    found = Sweep.load(made.layout.plan)
    assert found.packs == made.packs and found.heats == made.heats
    assert {x: job.settings for x, job in found.jobs.items()} == {
        x: job.settings for x, job in made.jobs.items()
    }
    assert read_json(made.layout.plan)["legs"].keys() == {
        x for x, pack in made.packs.items() if pack.leg
    }


def test_what_to_delete_beside_a_file_of_a_rung(tmp_path: Path) -> None:
    sweep = begin(race(tmp_path))
    layout: Layout = sweep.layout
    point = sweep.packs["lora_rung1_s1_1"].points[0].name
    for pack, rung in (("lora_rung1_s1_1", 1), ("lora_end_s1_1", 0)):
        Receipt(layout.receipt("train", pack)).write({point: {"rung": rung}})
        file = layout.training(point, rung) / "train.json"
        assert find_receipt(file) == layout.receipt("train", pack)
    decide(sweep, 1, *list(sweep.heats["lora"].groups)[:3])
    assert find_receipt(layout.receipt("rung", "1")) == layout.receipt("rung", "1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": GRID | {"train_fraction": [0.5, 1]}}, "race: stops settings early, and a curve"),
        ({"rank_curve": True}, "race: stops settings early, and rank_curve wants all"),
        ({"race": {"checks": ["nvee"]}}, "race.checks.0: 'nvee' is not one of"),
        ({"race": {"rungs": [0.4, 0.2]}}, "race: the rungs [0.4, 0.2] do not rise"),
        ({"race": {"rungs": [1]}}, "race.rungs.0: 1 must be below 1"),
        ({"race": {"finalists": 1}}, "race.finalists: 1 must be at least 2"),
        ({"race": "fast"}, "race: 'fast' is not on, off or a mapping"),
        ({"race": {"rung": [0.1]}}, "race.rung: is not a key of race; did you mean rungs?"),
        ({"race": {"seeds_after": 3}}, "race: seeds_after: 3 is more than the 2 rungs"),
        ({"race": {"ranks": "svd"}}, "race.ranks: 'svd' is not one of train or cut"),
        ({"race": {"polish": 0}}, "race.polish: 0 must be above 0"),
        (
            {"race": {"ranks": "cut"}, "grid": GRID | {"rank": [4]}},
            "race: ranks: cut needs a lower rank to cut to, and grid.rank has one",
        ),
        (
            {"race": {"ranks": "cut"}, "train": {"targets": {"modules_to_save": ["readouts*"]}}},
            "race: ranks: cut cannot cut the whole modules of targets.modules_to_save",
        ),
    ],
)
def test_races_that_cannot_be(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UserErrors) as caught:
        begin(race(tmp_path) | changes)
    assert f"config: {said}" in str(caught.value)


def test_other_checks_and_a_kept_upgrade_leave_the_rungs_of_a_race_with_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = race(tmp_path) | {"race": {"checks": ["gradients"]}}
    sweep = begin(checked)
    assert set(sweep.jobs["rung/1"].needs) >= {"probe/1"}
    assert not any(x.startswith(("merge", "check")) for x in sweep.jobs["rung/1"].needs)
    pretend(sweep)
    other = running(begin(checked | {"checks": {"settings": {"nve": {"steps": 7}}}}))
    assert other and not {x for x in other if x.startswith(("train", "rung", "probe"))}
    monkeypatch.setattr("lora.plan.freshness._version", lambda package: "of tomorrow")
    kept = running(begin(checked | {"on_upgrade": "keep"}))
    assert kept and not {x for x in kept if x.startswith(("train", "rung", "probe"))}
