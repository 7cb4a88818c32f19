"""Kinds of adapters, starts and placements as axes of the grid: points, packs, races, messages."""

from pathlib import Path
from typing import Any

import pytest

from lora.adapters.kinds import KINDS
from lora.catalogue.methods import BY_NAME, STARTS
from lora.errors import UserError
from lora.plan.checking import validate
from lora.plan.config import Config
from lora.plan.points import count_points, make_points
from lora.plan.race import assign
from lora.plan.settings import TrainSettings
from lora.plan.targets import Targets
from tests.plan.test_race import EPOCHS
from tests.support.kinds import told_with_other
from tests.support.plans import begin, config, pretend, running

SMALL = {"rank": [2], "alpha": [1]}
ALL = {"skip_tp": True, "symmetric_contraction": True}
WIDE = {"methods": {"lora": {"targets": ALL}}}


def read(folder: Path, **changes: Any) -> Config:
    return validate(config(folder, **changes), folder=folder)


def grid(**axes: Any) -> dict[str, Any]:
    return {"grid": SMALL | axes, "baselines": []}


def test_a_start_and_a_placement_are_in_the_name_where_they_are_not_the_default(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, **grid(start=["documented", "upstream"], placement=["linear", "all"]))
    made = {x: point.settings for x, point in make_points(found).items() if point.settings}
    assert {x: (s.start, s.targets.skip_tp) for x, s in made.items()} == {
        "lora_r2_a1_s3": ("documented", False),
        "lora_r2_a1_all_s3": ("documented", True),
        "lora_r2_a1_upstream_s3": ("upstream", False),
        "lora_r2_a1_upstream_all_s3": ("upstream", True),
    }
    assert {x.kind for x in make_points(found).values()} == {"lora"}
    assert made["lora_r2_a1_all_s3"].targets.symmetric_contraction
    assert {s.placement for s in made.values()} == {"linear", "all"}
    assert count_points(found) == 4


def test_every_start_of_the_catalogue_can_be_swept(tmp_path: Path) -> None:
    points = make_points(read(tmp_path, **grid(start=list(STARTS))))
    assert [x.settings.start for x in points.values() if x.settings] == list(STARTS)


def test_a_cut_that_is_polished_starts_from_the_cut(tmp_path: Path) -> None:
    own = grid(rank=[1, 2], start=["pissa", "gradient"])
    found = read(tmp_path, race={"ranks": "cut", "polish": 0.5}, **own)
    starts = {x.name: x.settings.start for x in make_points(found).values() if x.cut_from}
    assert set(starts.values()) == {"documented", "gradient"} and len(starts) == 2


def test_the_start_of_train_has_no_mark(tmp_path: Path) -> None:
    """A start that is added to the grid renames nothing, whatever train.start is."""
    own = {"train": {"start": "upstream"}}
    plain = make_points(read(tmp_path, **own, **grid()))
    more = make_points(read(tmp_path, **own, **grid(start=["upstream", "documented"])))
    assert list(more) == ["lora_r2_a1_s3", "lora_r2_a1_documented_s3"]
    assert more["lora_r2_a1_s3"] == plain["lora_r2_a1_s3"]
    of_method = {"methods": {"lora": {"start": "upstream"}}}
    assert list(make_points(read(tmp_path, **of_method, **grid(start=["upstream"])))) == [*plain]


def test_a_placement_keeps_what_targets_say(tmp_path: Path) -> None:
    targets = {"include": ["products.*"], "skip_tp": True}
    points = make_points(
        read(tmp_path, train={"targets": targets}, **grid(placement=["linear", "all"]))
    )
    linear, whole = (x.settings.targets for x in points.values() if x.settings)
    assert linear == Targets.from_dict(targets) and whole == Targets.from_dict(targets | ALL)


def test_the_defaults_of_the_axes_are_the_grid_without_them(tmp_path: Path) -> None:
    before = begin(config(tmp_path))
    pretend(before)
    written = {"adapter": ["lora"], "start": ["documented"], "placement": ["linear"]}
    raw = config(tmp_path)
    after = begin(raw | {"grid": raw["grid"] | written})
    assert after.points == before.points and not running(after)


def test_no_axis_is_a_new_setting(tmp_path: Path) -> None:
    """A setting that is new would be in the digests of all that was trained before."""
    point = make_points(read(tmp_path, **grid()))["lora_r2_a1_s3"]
    assert not {"placement", "adapter"} & {*(point.values() or {})}
    assert TrainSettings.from_dict(point.values() or {}).placement == "linear"


def test_another_value_of_an_axis_trains_no_point_again(tmp_path: Path) -> None:
    pretend(begin(config(tmp_path)))
    raw = config(tmp_path)
    axes = {"start": ["documented", "upstream"], "placement": ["linear", "all"]}
    again = running(begin(raw | {"grid": raw["grid"] | axes}))
    trained = {x for x in again if x.startswith("train/")}
    assert trained == {
        *(f"train/lora_s3_{i}" for i in (3, 4)),
        *(f"train/lora_all_s3_{i}" for i in (1, 2, 3, 4)),
    }


def test_starts_share_packs_and_placements_do_not(tmp_path: Path) -> None:
    axes = {"start": ["documented", "upstream"], "placement": ["linear", "all"]}
    sweep = begin(config(tmp_path, **grid(**axes), pack={"size": 8}))
    packs = {x: [p.name for p in pack.points] for x, pack in sweep.packs.items()}
    assert packs == {
        "lora_s3_1": ["lora_r2_a1_s3", "lora_r2_a1_upstream_s3"],
        "lora_all_s3_1": ["lora_r2_a1_all_s3", "lora_r2_a1_upstream_all_s3"],
    }


@pytest.mark.parametrize("rules", [True, {"ranks": "cut"}], ids=["trained", "cut"])
def test_placements_race_against_each_other_in_packs_of_their_own(
    tmp_path: Path, rules: Any
) -> None:
    lists = {"rank": [1, 2, 4], "alpha": [1, 8], "seed": [1, 2], "placement": ["linear", "all"]}
    sweep = begin(config(tmp_path, race=rules, grid=lists, **EPOCHS))
    (heat,) = sweep.heats.values()
    groups = list(heat.groups)
    assert any("_all" in x for x in groups) and not all("_all" in x for x in groups)
    for leg in range(2, heat.legs + 1):
        for chosen in (groups[: heat.sizes(True)[leg - 1]], groups[-heat.sizes(True)[leg - 1] :]):
            filled = assign(heat, leg, chosen, sweep.packs)
            members = [x for names in filled.values() for x in names]
            assert len(members) == len({*members})
            assert {sweep.points[x].group for x in members if "cut" not in x} == {*chosen}
            for names in filled.values():
                assert len({sweep.points[x].peers for x in names}) <= 1
    first = [x for x in sweep.packs.values() if x.leg and x.leg.number == 1]
    assert {len({p.peers for p in pack.points}) for pack in first} == {1}
    assert sum(len(pack.points) for pack in first) == len(groups)
    order = list(sweep.jobs)
    needs = {(order.index(x), order.index(k)) for k, job in sweep.jobs.items() for x in job.needs}
    assert all(before < after for before, after in needs)
    assert type(sweep).load(sweep.layout.plan).packs == sweep.packs


def test_targets_alone_name_no_pack(tmp_path: Path) -> None:
    """What was trained before there were placements is found again."""
    for more in ({}, {"race": True, **EPOCHS, "grid": {"rank": [1, 2, 4], "alpha": [1]}}):
        plain, wide = (begin(config(tmp_path, **more, **x)) for x in ({}, WIDE))
        assert list(wide.packs) == list(plain.packs) and list(wide.points) == list(plain.points)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "adapter": (grid(adapter=["lorra"]), r"grid\.adapter\.0: 'lorra' is not one of .*mean lora\?"),
    "no adapter": (grid(adapter=[]), r"grid\.adapter: \[\] is empty; give at least one value"),
    "adapter as text": (grid(adapter="lora"), r"grid\.adapter: .* write adapter: \[lora\]"),
    "start": (grid(start=["upsteam"]), r"grid\.start\.0: .*; did you mean upstream\?"),
    "start twice": (grid(start=["upstream"] * 2), r"grid\.start: 'upstream' stands in it twice"),
    "placement": (grid(placement=["al"]), r"grid\.placement\.0: .*; did you mean all\?"),
    "the same layers": (
        grid(placement=["linear", "all"]) | {"train": {"targets": ALL}},
        r"grid\.placement: targets of lora adapts the same layers with linear and all; remove one",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_wrong_values_are_said_in_a_line(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, **changes)
    assert len(str(caught.value).splitlines()) == 1


def test_the_catalogue_knows_which_kinds_can_be_cut() -> None:
    assert {x: kind.can_be_cut for x, kind in KINDS.items()} == {
        x: BY_NAME[x].can_be_cut for x in KINDS
    }


KIND = """
from pathlib import Path
from lora.errors import UserError
from lora.plan.checking import validate
from lora.plan.points import count_points, make_points
from tests.support.plans import begin, config

folder, said = Path(sys.argv[1]), {}
base = {"grid": {"rank": [1, 2], "alpha": [1], "adapter": ["lora", "other"]}, "baselines": []}
own = {"methods": {"other": {"batch_size": 3}}}
sweep = begin(config(folder, rank_curve=True, pack={"size": 8}, **base, **own))
said["points"] = {x: p.kind for x, p in sweep.points.items()}
said["count"] = count_points(sweep.config)
said["packs"] = {x: [p.name for p in pack.points] for x, pack in sweep.packs.items()}
one = sweep.points["other_r2_a1_s3"].settings
said["settings"] = [one.method, one.lr, one.ema_decay, one.batch_size]
said["loaded"] = type(sweep).load(sweep.layout.plan).packs == sweep.packs
raced = begin(config(folder, race={"ranks": "cut"}, results=str(folder / "raced"), **base))
said["heats"] = {x: list(heat.groups) for x, heat in raced.heats.items()}
said["cuts"] = sorted(x for x, p in raced.points.items() if p.cut_from)
def wrong(**changes):
    try:
        validate(config(folder, **base | changes), folder=folder)
    except UserError as error:
        return str(error)
alone = {"grid": base["grid"] | {"adapter": ["other"]}}
said["curve"] = wrong(rank_curve=True, **alone)
said["race"] = wrong(race={"ranks": "cut"}, **alone)
said["twice"] = wrong(grid=base["grid"] | {"lr": [0.1]}, methods={"other": {"lr": [0.1, 0.2]}})
replay = base["grid"] | {"replay": [True]}
replay = config(folder, grid=replay, baselines=[], replay={"file": str(folder / "data.xyz")})
said["replay"] = sorted({p.kind for p in make_points(validate(replay, folder=folder)).values()})
import dataclasses
from lora.catalogue.methods import BY_NAME
BY_NAME["other"] = dataclasses.replace(BY_NAME["other"], starts=("documented",))
one = {"grid": {"rank": [1], "alpha": [1], "adapter": ["lora", "other"]}, "baselines": []}
both = one["grid"] | {"start": ["upstream", "documented"]}
some = validate(config(folder, grid=both, baselines=[]), folder=folder)
said["starts"] = [list(make_points(some)), count_points(some)]
said["no start"] = wrong(grid=one["grid"] | {"start": ["upstream"]})
said["start of train"] = wrong(**one, train={"start": "upstream"})
print(json.dumps(said))
"""


def test_another_kind_has_points_packs_and_settings_of_its_own(tmp_path: Path) -> None:
    said = told_with_other(KIND, str(tmp_path))
    trained = {f"{kind}_r{r}_a1_s3": kind for kind in ("lora", "other") for r in (1, 2)}
    assert said["points"] == trained | {"lora_r2_a1_s3_cut1": "cut"} and said["count"] == 4
    assert said["packs"] == {
        "cut_s3": ["lora_r2_a1_s3_cut1"],
        "lora_s3_1": ["lora_r1_a1_s3", "lora_r2_a1_s3"],
        "other_s3_1": ["other_r1_a1_s3", "other_r2_a1_s3"],
    }
    assert said["settings"] == ["other", 0.02, 0.9, 3] and said["loaded"]
    assert said["heats"] == {"lora": ["lora_r2_a1"]} and said["cuts"] == ["lora_r2_a1_s3_cut1"]
    assert (
        "rank_curve: other adapters cannot be cut; leave it out, or add lora to grid.adapter"
        in said["curve"]
    )
    assert "ranks: cut needs adapters that can be cut, not other; take ranks: train" in said["race"]
    assert "grid.lr: is swept in methods.other.lr, too; leave out one of them" in said["twice"]
    assert said["replay"] == ["lora_replay", "other_replay"]
    lora = ["lora_r1_a1_upstream_s3", "lora_r1_a1_s3"]
    assert said["starts"] == [[*lora, "other_r1_a1_s3"], 3]
    no = "other adapters cannot start with upstream; use documented"
    assert f"grid.start: {no}" in said["no start"]
    assert f"methods.other.start: {no}" in said["start of train"]
