"""Which packs share what comes after their training."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from lora.plan.bundles import bundles_of
from lora.plan.sweep import Sweep
from tests.support.plans import begin, config, pretend, running

RATES = [0.001, 0.002, 0.003]


def named(sweep: Sweep) -> dict[str, list[str]]:
    return {name: [x.name for x in packs] for name, packs in bundles_of(sweep.packs).items()}


def packs_in(bundles: Iterable[list[str]]) -> set[str]:
    return {x for members in bundles for x in members}


def grid(folder: Path, rates: list[float], **changes: object) -> Sweep:
    own = {"grid": {"rank": [2, 4], "seed": [1, 2]}, "methods": {"full": {"lr": rates}}}
    return begin(config(folder, **own, **changes))


def test_packs_of_one_point_are_taken_together_by_kind(tmp_path: Path) -> None:
    found = named(grid(tmp_path, RATES, baselines=["foundation", "full", "freeze"]))
    rest = {x: members for x, members in found.items() if not x.startswith(("full", "freeze"))}
    assert rest == {x: [x] for x in ("lora_s1_1", "lora_s2_1", "foundation")}
    full = [f"full_lr{rate}_s{seed}" for rate in RATES for seed in (1, 2)]
    assert sorted(found["full_1"] + found["full_2"]) == sorted(full)
    assert len(found["full_1"]) == len(found["full_2"]) == 3
    freezes = [members for x, members in found.items() if x.startswith("freeze")]
    assert max(map(len, freezes)) <= 4 and len(packs_in(freezes)) > len(freezes)


def test_what_waits_for_what(tmp_path: Path) -> None:
    sweep = grid(tmp_path, RATES)
    merge = sweep.jobs["merge/full_1"]
    members = named(sweep)["full_1"]
    assert {x for x in merge.needs if x.startswith("train/")} == {f"train/{x}" for x in members}
    assert merge.settings["points"] == members
    assert {"evaluate/full_1", "check/full_1"} <= set(sweep.jobs["choose"].needs)


def test_a_sweep_that_grows_or_shrinks_keeps_its_bundles(tmp_path: Path) -> None:
    first = grid(tmp_path, RATES)
    pretend(first)
    before = named(first)
    grown = grid(tmp_path, [*RATES, 0.004])
    after = named(grown)
    assert {x: after[x] for x in before} == before
    assert sorted(after["full_3"]) == ["full_lr0.004_s1", "full_lr0.004_s2"]
    again = {x for x in running(grown) if x.partition("/")[0] in ("merge", "evaluate", "check")}
    assert again == {"merge/full_3", "evaluate/full_3", "check/full_3"}
    shrunk = grid(tmp_path, RATES[:2])
    assert packs_in(named(shrunk).values()) < packs_in(before.values())
    assert not {x for x in running(shrunk) if x.startswith("train/")}


def test_what_was_merged_by_itself_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of versions that knew no bundles."""
    with monkeypatch.context() as older:
        older.setattr("lora.plan.bundles._bundled", lambda kind, names, taken: {})
        first = grid(tmp_path, RATES)
        assert not any(x.startswith("full_1") for x in named(first))
        pretend(first)
    assert running(grid(tmp_path, RATES)) == {}


def test_the_plan_says_it_to_every_job(tmp_path: Path) -> None:
    sweep = grid(tmp_path, RATES)
    assert named(Sweep.load(sweep.layout.plan)) == named(sweep)
