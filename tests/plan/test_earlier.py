"""What a config names of earlier sweeps: messages, names of points, and what runs again."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lora.errors import UserErrors
from lora.files.sealed import write_sealed
from lora.plan.checking import validate
from lora.plan.earlier import CARD, TENSORS, adapter_at, called
from lora.plan.points import make_points
from lora.tracking.names import title_of
from tests.support.plans import begin, config, pretend, running

SMALL = {"rank": [2], "alpha": [1]}
MERGED = b"an adapter in its base"


def adapter(folder: Path, name: str = "one/train/p/adapter", method: str = "lora") -> Path:
    """The files of an adapter, as far as a plan looks at them."""
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    (out / TENSORS).write_bytes(method.encode())
    card = {"method": method, "base": {"name": "b"}, "rank": 2, "alpha": 1.0, "scaling": "mace"}
    write_sealed(out / CARD, card, [out / TENSORS])
    return out


def going_on(folder: Path, **more: Any) -> dict[str, Any]:
    own = {"grid": SMALL | {"start": ["documented", "adapter"]}, "baselines": []}
    return config(folder, **own, train={"start_from": str(adapter(folder))}, **more)


def test_an_adapter_is_found_by_its_folder_its_point_and_its_files(tmp_path: Path) -> None:
    out = adapter(tmp_path)
    for path in (out, out.parent, out / CARD, out / TENSORS):
        assert adapter_at(path) == out and called(path) == out.parent
    assert adapter_at(tmp_path) is None and adapter_at("x" * 5000) is None
    assert called("adapter") == Path("adapter") and called("a/b.model") == Path("a/b.model")
    raw = config(tmp_path, foundation={"model": str(out)})
    assert title_of(validate(raw, folder=tmp_path)) == "p on data"


STARTS = {"start": "adapter", "start_from": "one/train/p/adapter"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "own_results": (
        {"foundation": {"model": "results/merge/p/p.model"}},
        r"foundation\.model: .* lies in results, where this sweep writes; name another folder",
    ),
    "base_of_no_adapter": (
        {"foundation": {"model": "base.model", "base": "small"}},
        r"foundation\.base: is not used, as foundation\.model is no adapter",
    ),
    "no_such_base": (
        {"foundation": {"model": "one/train/p/adapter", "base": "smal"}},
        r"foundation\.base: 'smal' is neither a file nor a name that MACE knows; did you mean smal",
    ),
    "no_start_from": (
        {"grid": SMALL | {"start": ["adapter"]}},
        r"train\.start_from: is missing; the start adapter needs",
    ),
    "no_start_from_in_train": ({"train": {"start": "adapter"}}, r"start_from: is missing"),
    "unused": (
        {"train": {"start_from": "one/train/p/adapter"}},
        r"train\.start_from: is not used; set train\.start: adapter",
    ),
    "nothing_there": (
        {"train": {"start": "adapter", "start_from": "nowhere"}},
        r"train\.start_from: 'nowhere' is not the folder of an adapter; paths start at",
    ),
    "of_this_sweep": (
        {"train": {"start": "adapter", "start_from": "results/train/p/adapter"}},
        r"train\.start_from: .* lies in results, where this sweep writes",
    ),
    "other_kind": (
        {"train": {"start": "adapter", "start_from": "two/train/d/adapter"}},
        r"train\.start_from: .* holds dora weights, and the points are of lora",
    ),
    "other_replay": (
        {"train": STARTS, "grid": SMALL | {"replay": [True]}, "replay": {"file": __file__}},
        r"train\.start_from: .* was trained without replay; set grid\.replay: \[false\]",
    ),
    "two_placements": (
        {"train": STARTS, "grid": SMALL | {"placement": ["linear", "all"]}},
        r"train\.start_from: .* adapts one placement",
    ),
    "of_no_adapter": (
        {"methods": {"full": {"start_from": "one/train/p/adapter"}}},
        r"methods\.full\.start_from: is not used by full, but by lora, dora and sparse alone",
    ),
    "other_alpha": (
        {
            "train": STARTS | {"start_from": "two/train/d/adapter"},
            "grid": SMALL | {"adapter": ["dora"], "alpha": [8, 32]},
        },
        r"train\.start_from: .* has alpha .*, and dora adapters go on with that only",
    ),
    "e0s_of_no_adapter": (
        {"e0s": {"method": "adapter"}},
        r"e0s\.method: adapter needs one adapter that trainings go on from, and there are 0",
    ),
    "odd_path": ({"train": {"start": "adapter", "start_from": "a{b}"}}, r"is no path that"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    changes, words = BAD[name]
    for place, kind in {
        "one/train/p": "lora",
        "results/train/p": "lora",
        "two/train/d": "dora",
    }.items():
        adapter(tmp_path, f"{place}/adapter", kind)
    (tmp_path / "results/merge/p").mkdir(parents=True)
    (tmp_path / "results/merge/p/p.model").write_text("")
    raw = config(Path(), **{"grid": SMALL} | changes) | {"results": "results"}
    with pytest.raises(UserErrors, match=words) as error:
        validate(raw, folder=tmp_path)
    assert len(error.value.lines) == 1


def test_points_that_go_on_stand_beside_those_that_begin(tmp_path: Path) -> None:
    points = make_points(validate(going_on(tmp_path), folder=tmp_path))
    found = {name: x.settings.start_from for name, x in points.items() if x.settings}
    there = str(tmp_path / "one/train/p/adapter")
    assert found == {"lora_r2_a1_s3": None, "lora_r2_a1_adapter_s3": there}
    cut = going_on(tmp_path, race={"ranks": "cut"}) | {"grid": SMALL | {"rank": [1, 2]}}
    cut["train"]["start"] = "adapter"
    made = make_points(validate(cut, folder=tmp_path)).values()
    assert {(x.settings.start, x.settings.start_from) for x in made if x.settings} == {
        ("adapter", there),
        ("documented", None),
    }


def test_e0s_of_the_adapter_depend_on_it(tmp_path: Path) -> None:
    raw = going_on(tmp_path, e0s={"method": "adapter"})
    job = begin(raw).jobs["e0s"]
    assert job.files["start"] == tmp_path / "one/train/p/adapter" / CARD
    assert "start" not in begin(config(tmp_path, grid=SMALL)).jobs["e0s"].files


def test_an_adapter_that_is_gone_and_no_longer_asked_for(tmp_path: Path) -> None:
    """What has started from it stays as it is."""
    raw = going_on(tmp_path)
    pretend(begin(raw))
    shutil.rmtree(tmp_path / "one")
    raw["grid"] = SMALL | {"start": ["documented"]}
    raw["train"] = {}
    assert not [x for x in running(begin(raw)) if x.startswith("train/")]


def test_the_content_of_the_start_counts_and_not_its_place(tmp_path: Path) -> None:
    raw = going_on(tmp_path)
    pretend(begin(raw))
    assert running(begin(raw)) == {}
    (tmp_path / "one").rename(tmp_path / "moved")
    raw["train"] = {"start_from": str(tmp_path / "moved/train/p/adapter")}
    assert running(begin(raw)) == {}
    (tmp_path / "moved/train/p/adapter" / TENSORS).write_bytes(b"others")
    write_sealed(
        tmp_path / "moved/train/p/adapter" / CARD,
        {"method": "lora", "base": {"name": "b"}},
        [tmp_path / "moved/train/p/adapter" / TENSORS],
    )
    found = running(begin(raw))
    assert "changed data" in found.values() and not {"split", "e0s", "foundation"} & set(found)


def test_an_adapter_as_the_base_counts_by_its_content(tmp_path: Path) -> None:
    raw = config(tmp_path, foundation={"model": str(adapter(tmp_path))})
    pretend(begin(raw), model=MERGED)
    assert running(begin(raw)) == {}
    (tmp_path / "one").rename(tmp_path / "moved")
    there = tmp_path / "moved/train/p/adapter"
    raw["foundation"] = {"model": str(there)}
    assert running(begin(raw)) == {}
    sweep = begin(raw)
    shutil.rmtree(sweep.layout.foundation_model.parent)
    assert running(begin(raw)) == {"foundation": "new"}
    pretend(begin(raw), model=MERGED)
    (there / TENSORS).write_bytes(b"others")
    write_sealed(there / CARD, {"method": "lora", "base": {"name": "b"}}, [there / TENSORS])
    found = running(begin(raw))
    assert {"foundation", "audit", "e0s", "merge/foundation"} <= set(found) and "split" not in found
