"""Points and packs: names, settings, who trains together, what an earlier start leaves."""

from pathlib import Path
from typing import Any

import pytest

from lora.catalogue.methods import BY_NAME
from lora.errors import UserError
from lora.plan.checking import validate
from lora.plan.config import Config
from lora.plan.packs import make_packs
from lora.plan.points import make_points
from tests.support.plans import begin, config, pretend


def read(folder: Path, **changes: Any) -> Config:
    return validate(config(folder, **changes), folder=folder)


def names(folder: Path, **changes: Any) -> list[str]:
    return list(make_points(read(folder, **changes)))


def test_names_say_what_a_point_is(tmp_path: Path) -> None:
    (tmp_path / "old.xyz").write_text((tmp_path / "old.xyz").name)
    grid = {"rank": [4], "alpha": [8.0, 0.5], "lr": [0.01, 1.0e-4], "seed": [1, 2]}
    found = names(tmp_path, grid=grid, baselines=["foundation", "full", "freeze"])
    assert found[:4] == [
        "lora_r4_a8_lr0.01_s1",
        "lora_r4_a8_lr0.01_s2",
        "lora_r4_a8_lr0.0001_s1",
        "lora_r4_a8_lr0.0001_s2",
    ]
    assert "lora_r4_a0.5_lr0.01_s1" in found
    assert found[-5:] == ["full_s1", "full_s2", "freeze_s1", "freeze_s2", "foundation"]
    grid = {"rank": [4], "replay": [False, True], "train_fraction": [0.25, 1]}
    replayed = {"grid": grid, "replay": {"file": str(tmp_path / "old.xyz")}}
    assert names(tmp_path, **replayed, baselines=["full", "full_replay"]) == [
        "lora_r4_a1_f0.25_s3",
        "lora_r4_a1_s3",
        "lora_r4_a1_replay_f0.25_s3",
        "lora_r4_a1_replay_s3",
        "full_f0.25_s3",
        "full_s3",
        "full_replay_f0.25_s3",
        "full_replay_s3",
    ]
    kept = {"grid": {"rank": [4], "keep": [False, True], "train_fraction": [0.25, 1]}}
    assert names(tmp_path, **kept, baselines=[]) == [
        "lora_r4_a1_f0.25_s3",
        "lora_r4_a1_s3",
        "lora_r4_a1_keep_f0.25_s3",
        "lora_r4_a1_keep_s3",
    ]
    weighted = kept | {"keep": {"weight": 0, "penalty": 100}}
    points = make_points(read(tmp_path, **weighted, baselines=[]))
    given = [(x.settings.keep_weight, x.settings.keep_penalty) for x in points.values()]
    assert given == [(0.01, 0.0)] * 2 + [(0.0, 100.0)] * 2


def test_numbers_keep_their_last_digit(tmp_path: Path) -> None:
    near = [1.00000001, 1.00000002]
    assert len(set(names(tmp_path, grid={"alpha": near}))) == 4


def test_groups_differ_by_seed_alone(tmp_path: Path) -> None:
    changes = {"grid": {"rank": [2, 4], "seed": [1, 2]}, "rank_curve": True}
    points = make_points(read(tmp_path, **changes))
    groups = {x.name: x.group for x in points.values()}
    assert groups["lora_r4_a1_s1"] == groups["lora_r4_a1_s2"] == "lora_r4_a1"
    assert groups["lora_r4_a1_s2_cut2"] == "lora_r4_a1_cut2"
    assert groups["full_s1"] == "full" and groups["foundation"] == "foundation"
    cut = points["lora_r4_a1_s2_cut2"]
    assert cut.cut_from == "lora_r4_a1_s2" and cut.settings and cut.settings.rank == 2
    assert cut.kind == "cut" and not cut.is_lora
    assert {x.name for x in points.values() if x.cut_from} == {
        "lora_r4_a1_s1_cut2",
        "lora_r4_a1_s2_cut2",
    }


def test_settings_of_a_point_win_over_those_of_its_method_and_of_all(tmp_path: Path) -> None:
    points = make_points(
        read(
            tmp_path,
            train={"lr": 0.5, "batch_size": 7},
            methods={"lora": {"lr": 0.25}, "full": {"batch_size": 9}},
            grid={"rank": [2], "alpha": [3], "lr": [0.125]},
        )
    )
    lora, full = points["lora_r2_a3_lr0.125_s3"].settings, points["full_s3"].settings
    assert lora and full
    assert (lora.lr, lora.batch_size, lora.rank, lora.alpha) == (0.125, 7, 2, 3)
    assert (full.lr, full.batch_size, full.method, full.seed) == (0.5, 9, "full", 3)
    assert (lora.ema_decay, full.ema_decay) == (0.99, 0.999)  # the methods' own


# --- packs


def packs(folder: Path, cores: int = 2, known: Any = None, **changes: Any) -> dict[str, list[str]]:
    found = read(folder, **changes)
    made = make_packs(found, make_points(found), known or {}, cores)
    return {name: [x.name for x in pack.points] for name, pack in made.items()}


def test_points_of_a_seed_share_packs_and_others_are_alone(tmp_path: Path) -> None:
    found = packs(tmp_path, grid={"rank": [2, 4, 8], "seed": [1, 2]}, pack={"size": 2})
    assert found["lora_s1_1"] == ["lora_r2_a1_s1", "lora_r4_a1_s1"]
    assert found["lora_s1_2"] == ["lora_r8_a1_s1"]
    assert found["full_s2"] == ["full_s2"] and found["foundation"] == ["foundation"]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("device", "cores", "size"), [("cpu", 2, 4), ("cpu", 8, 1), ("cpu", 1, 4), ("cuda", 2, 8)]
)
def test_the_size_of_a_pack_follows_the_machine(
    tmp_path: Path, device: str, cores: int, size: int
) -> None:
    grid = {"rank": list(range(1, 9))}
    found = packs(tmp_path, cores, grid=grid, pack={"size": "auto"}, train={"device": device})
    assert len(found["lora_s3_1"]) == size


def test_a_training_that_has_begun_keeps_its_pack(tmp_path: Path) -> None:
    sweep = begin(config(tmp_path))
    work = sweep.layout.work("lora_s3_1")
    work.mkdir(parents=True)
    (work / "checkpoint.pt").write_bytes(b"")
    again = begin(config(tmp_path, pack={"size": 4}))
    assert [x.name for x in again.packs["lora_s3_1"].points] == ["lora_r2_a1_s3", "lora_r2_a8_s3"]
    assert [x.name for x in again.packs["lora_s3_2"].points] == ["lora_r4_a1_s3", "lora_r4_a8_s3"]
    fewer = begin(config(tmp_path, grid={"rank": [2], "alpha": [8]}))  # it cannot go on as it is
    assert [x.name for x in fewer.packs["lora_s3_1"].points] == ["lora_r2_a8_s3"]


def test_a_pack_that_trains_again_lets_points_go_that_left_the_grid(tmp_path: Path) -> None:
    pretend(begin(config(tmp_path)))
    changed = config(tmp_path, grid={"rank": [2], "alpha": [8]}, train={"lr": 0.02})
    assert [x.name for x in begin(changed).packs["lora_s3_1"].points] == ["lora_r2_a8_s3"]


def test_other_cores_repack_no_trained_points(tmp_path: Path) -> None:
    pretend(begin(config(tmp_path, pack={"size": "auto"})))
    sweep = begin(config(tmp_path, pack={"size": 1}))
    assert len(sweep.packs["lora_s3_1"].points) == 2


def test_every_method_can_be_swept_and_baselines_are(tmp_path: Path) -> None:
    swept = {"full": {"lr": [0.001, 0.01], "clip_grad": [10, 100]}, "freeze": {}}
    swept["lora"] = {"ema_decay": [0.9]}
    made = make_points(read(tmp_path, baselines=["full", "freeze"], methods=swept))
    full = {point.group: point.settings for point in made.values() if point.kind == "full"}
    assert list(full) == [f"full_lr{lr}_clip{x}" for lr in ("0.001", "0.01") for x in (10, 100)]
    last = full["full_lr0.01_clip100"]
    assert last is not None and (last.lr, last.clip_grad, last.ema_decay) == (0.01, 100.0, 0.999)
    assert "lora_r2_a1_ema0.9_s3" in made
    frozen = [point.settings for point in made.values() if point.kind == "freeze"]
    assert [x.lr for x in frozen if x] == list(BY_NAME["freeze"].rates)
    given = make_points(
        read(tmp_path, baselines=["full"], methods={"full": {}}, train={"lr": 0.02})
    )
    settings = [point.settings for point in given.values() if point.kind == "full"]
    assert list(given)[-1] == "full_s3" and [x.lr for x in settings if x] == [0.02]


def test_a_setting_is_not_swept_twice(tmp_path: Path) -> None:
    both = {"grid": {"lr": [0.01]}, "methods": {"lora": {"lr": [0.02, 0.03]}}}
    with pytest.raises(UserError, match=r"grid\.lr: is swept in methods\.lora\.lr, too"):
        read(tmp_path, **both)


WHOLE = {"methods": {"lora": {"targets": {"modules_to_save": ["readouts"]}}}}


def test_points_with_modules_of_their_own_train_alone(tmp_path: Path) -> None:
    found = packs(tmp_path, grid={"rank": [2, 4]}, pack={"size": 4}, **WHOLE)
    assert found["lora_s3_1"] == ["lora_r2_a1_s3"] and found["lora_s3_2"] == ["lora_r4_a1_s3"]
    pretend(begin(config(tmp_path)))  # a pack of two, which has to train again
    sweep = begin(config(tmp_path, **WHOLE))
    assert [len(x.points) for x in sweep.packs.values()] == [1] * len(sweep.packs)
    assert {"lora_s3_1", "lora_s3_2"} <= set(sweep.packs)
