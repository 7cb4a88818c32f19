"""Parts of trainings: a point that went through the rungs of a race is the point of the grid."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lora.errors import Paused, UserError
from lora.files.sealed import read_json
from lora.plan.commands import Limits, Part
from lora.plan.settings import TrainSettings
from lora.plan.targets import Targets
from lora.steps.train import train_pack
from lora.training import session
from tests.support import counts
from tests.support.trainings import lines_of, same

EPOCHS, RUNG = 6, 3
CLOSE = 1e-8  # relative, where the pack is another
POINTS = {
    "a": {"rank": 1, "alpha": 8.0, "lr": 0.02},
    "b": {"rank": 3, "alpha": 2.0, "scaling": "rank_stable"},
    "c": {"rank": 2, "alpha": 4.0, "scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.7},
    "d": {"rank": 4, "alpha": 4.0, "weight_decay": 0.01, "amsgrad": False},
}
COMMON = {"batch_size": 3, "ema_decay": 0.9, "clip_grad": 0.5, "patience": 50}


def settings(name: str, **own: object) -> TrainSettings:
    return TrainSettings(**(COMMON | {"max_num_epochs": EPOCHS} | POINTS.get(name, {}) | own))


def train(inputs: dict, out: Path, names: str, part: Part | None = None, **own: object) -> list:
    points = {out / x: settings(x, **own) for x in names}
    limits = Limits(part=part)
    return train_pack(points, **inputs, work=out / f"work_{names}", limits=limits)


def first(inputs: dict, out: Path, names: str, code: str = "", **own: object) -> list:
    return train(inputs, out / "rung", names, Part(1, RUNG, {}, code, bool(code)), **own)


@pytest.fixture(scope="module")
def rung(inputs: dict, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list]:
    """rung(out, names, code): what `first` does, trained once in this file and copied."""
    made: dict[tuple[str, str], tuple[Path, list]] = {}

    def copy(out: Path, names: str, code: str = "") -> list:
        if (names, code) not in made:
            home = tmp_path_factory.mktemp("begun")
            made[names, code] = home, first(inputs, home, names, code)
        home, results = made[names, code]
        shutil.copytree(home / "rung", out / "rung", dirs_exist_ok=True)
        return results

    return copy


def rest(inputs: dict, out: Path, names: str, code: str = "", **own: object) -> list:
    begun = {out / x: out / "rung" / x for x in names}
    return train(inputs, out, names, Part(0, None, begun, code, bool(code)), **own)


@pytest.fixture(scope="module")
def grid(inputs: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All points, trained to the end as one pack."""
    out = tmp_path_factory.mktemp("grid")
    train(inputs, out, "abcd")
    return out


def apart(one: Path, other: Path) -> float:
    """The largest relative difference of two trainings: their losses and their adapters."""
    found = []
    for key in ("train_loss", "valid_loss"):
        a, b = ([line[key] or 0 for line in lines_of(x)] for x in (one, other))
        assert len(a) == len(b) == EPOCHS + 1
        found.append(np.abs(np.subtract(a, b)).max() / np.abs(a).max())
    a, b = (load_file(x / "adapter/adapter.safetensors") for x in (one, other))
    assert a.keys() == b.keys()
    found += [np.abs(a[x] - b[x]).max() / max(np.abs(a[x]).max(), 1e-300) for x in a]
    return float(max(found))


def test_a_rung_changes_nothing_in_the_same_pack(
    inputs: dict, rung: Callable, grid: Path, tmp_path: Path
) -> None:
    results = rung(tmp_path, "abcd")
    for result in results:
        assert (result["ended_by"], result["epochs"], result["rung"]) == ("stopped", RUNG, 1)
        assert result["best"]["valid_loss"] < lines_of(grid / result["point"])[0]["valid_loss"]
        assert len(lines_of(tmp_path / "rung" / result["point"])) == RUNG + 1
    for result in rest(inputs, tmp_path, "abcd"):
        assert (result["ended_by"], result["rung"]) == ("max_num_epochs", 0)
        assert same(tmp_path / result["point"], grid / result["point"])


@pytest.mark.parametrize("packs", [("ac", "b"), ("a", "bd"), ("dcba",), ("ca",)])
def test_survivors_in_other_packs_are_the_points_of_the_grid(
    inputs: dict, rung: Callable, grid: Path, tmp_path: Path, packs: tuple[str, ...]
) -> None:
    for names in ("ad", "cb"):  # their highest rank is another than that of the packs above
        rung(tmp_path, names)
    for names in packs:
        rest(inputs, tmp_path, names)
        for x in names:
            assert apart(tmp_path / x, grid / x) < CLOSE
    a, c = (lines_of(grid / x)[-1]["valid_loss"] for x in "ac")
    assert abs(a - c) > 0.1 * c  # the points differ


def test_in_float32_survivors_are_as_close_as_rounding_allows(inputs: dict, tmp_path: Path) -> None:
    """Measured: 2e-6 in other packs, and the same bytes in the same."""
    own = {"default_dtype": "float32"}
    train(inputs, tmp_path / "grid", "abcd", **own)
    for names in ("ad", "cb"):
        first(inputs, tmp_path / "other", names, **own)
    for names in ("ac", "bd"):
        rest(inputs, tmp_path / "other", names, **own)
    first(inputs, tmp_path / "same", "abcd", **own)
    rest(inputs, tmp_path / "same", "abcd", **own)
    for x in "abcd":
        assert apart(tmp_path / "other" / x, tmp_path / "grid" / x) < 2e-5
        assert same(tmp_path / "same" / x, tmp_path / "grid" / x)


def test_a_seed_that_comes_in_later_begins_beside_those_that_go_on(
    inputs: dict, rung: Callable, grid: Path, tmp_path: Path
) -> None:
    rung(tmp_path, "ab")
    begun = {tmp_path / "a": tmp_path / "rung/a"}
    train(inputs, tmp_path, "ac", Part(0, None, begun))
    for x in "ac":
        assert apart(tmp_path / x, grid / x) < CLOSE


WITH_READOUTS = {"targets": Targets(modules_to_save=("readouts*",))}


@pytest.mark.parametrize("own", [{"method": "full"}, WITH_READOUTS], ids=["full", "readouts"])
def test_points_that_train_alone(inputs: dict, tmp_path: Path, own: dict) -> None:
    common = {"scheduler": "ReduceLROnPlateau", "scheduler_patience": 0, **own}
    train(inputs, tmp_path / "grid", "x", **common)
    first(inputs, tmp_path, "x", **common)
    rest(inputs, tmp_path, "x", **common)
    assert same(tmp_path / "x", tmp_path / "grid/x")


def test_one_that_ended_by_itself_before_the_rung_stays_as_it_is(
    inputs: dict, tmp_path: Path
) -> None:
    own = {"max_num_epochs": RUNG - 1}
    (result,) = first(inputs, tmp_path, "a", **own)
    assert (result["ended_by"], result["epochs"]) == ("max_num_epochs", RUNG - 1)
    (again,) = rest(inputs, tmp_path, "a", **own)
    assert (again["ended_by"], again["epochs"]) == ("max_num_epochs", RUNG - 1)
    assert same(tmp_path / "a", tmp_path / "rung/a")


@pytest.mark.parametrize("leg", ["first", "rest"])
def test_a_part_that_is_stopped_goes_on(
    inputs: dict,
    rung: Callable,
    grid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leg: str,
) -> None:
    if leg == "rest":
        rung(tmp_path, "abcd")
    run, steps = {"first": first, "rest": rest}[leg], []

    def stopped(self: session.Session) -> None:
        steps.append(1)
        if len(steps) == 5:  # within an epoch
            raise Paused("made up")

    with monkeypatch.context() as patched:
        patched.setattr(session.Session, "_each_step", stopped)
        with pytest.raises(Paused):
            run(inputs, tmp_path, "abcd")
    run(inputs, tmp_path, "abcd")
    if leg == "first":
        rest(inputs, tmp_path, "abcd")
    assert all(same(tmp_path / x, grid / x) for x in "abcd")


def test_what_was_made_by_the_same_code_is_taken(
    inputs: dict, rung: Callable, tmp_path: Path
) -> None:
    rung(tmp_path, "ab", "one")
    stamps = {x: lines_of(tmp_path / "rung" / x)[-1]["timestamp"] for x in "ab"}
    results = first(inputs, tmp_path, "abc", code="one")
    assert {x["point"] for x in results} == set("abc")
    for x, stamp in stamps.items():
        assert lines_of(tmp_path / "rung" / x)[-1]["timestamp"] == stamp
    first(inputs, tmp_path, "a", code="another")
    assert lines_of(tmp_path / "rung/a")[-1]["timestamp"] > stamps["a"]
    first(inputs, tmp_path, "b")  # "" takes none
    assert lines_of(tmp_path / "rung/b")[-1]["timestamp"] > stamps["b"]


FILES = ["state.pt", "adapter/adapter.safetensors", "adapter/adapter.json", "metrics.jsonl"]
FAULTY = counts.covering(FILES, ["gone", "damaged"])


@pytest.mark.long
@pytest.mark.parametrize(("file", "fault"), FAULTY, ids=counts.named(FAULTY))
def test_what_is_not_whole_is_not_taken(
    inputs: dict, rung: Callable, tmp_path: Path, file: str, fault: str
) -> None:
    rung(tmp_path, "a", "one")
    path = tmp_path / "rung/a" / file
    stamp = lines_of(tmp_path / "rung/a")[-1]["timestamp"]
    path.unlink() if fault == "gone" else path.write_bytes(path.read_bytes()[:-9] + b"x")
    first(inputs, tmp_path, "a", code="one")
    again = lines_of(tmp_path / "rung/a")[-1]["timestamp"]
    assert (again > stamp) is not (file == "state.pt" and fault == "damaged")  # read later


def test_a_crash_keeps_what_was_taken(
    inputs: dict, rung: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last try: one point was made before, and another breaks after its first epoch."""
    rung(tmp_path, "a", "one")

    def broken(self: session.Fit, batch: object, group: list[int]) -> list:
        raise RuntimeError("made up")

    monkeypatch.setattr(session.Fit, "train_step", broken)
    points = {tmp_path / "rung" / x: settings(x) for x in "ab"}
    limits = Limits(give_up=True, part=Part(1, RUNG, {}, "one", True))
    results = train_pack(points, **inputs, work=tmp_path / "work", limits=limits)
    ends = {x["point"]: x["ended_by"] for x in results}
    assert ends == {"a": "stopped", "b": "failed"}


def test_a_leg_that_crashes_in_its_first_epoch_is_given_up(
    inputs: dict, rung: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung(tmp_path, "ab")

    def broken(self: session.Fit, batch: object, group: list[int]) -> list:
        raise RuntimeError("made up")

    monkeypatch.setattr(session.Fit, "train_step", broken)
    begun = {tmp_path / x: tmp_path / "rung" / x for x in "ab"}
    limits = Limits(give_up=True, part=Part(0, None, begun))
    points = {tmp_path / x: settings(x) for x in "ab"}
    results = train_pack(points, **inputs, work=tmp_path / "work", limits=limits)
    assert [x["ended_by"] for x in results] == ["failed", "failed"]


def test_within_an_epoch_and_then_in_another_pack(
    inputs: dict, rung: Callable, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the middle of an epoch is of a pack that is no more: back to the rung."""
    for names in ("ad", "cb"):
        rung(tmp_path, names)
    steps: list[int] = []

    def stopped(self: session.Session) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise Paused("made up")

    begun = {tmp_path / x: tmp_path / "rung" / x for x in "abcd"}
    work, part = tmp_path / "work", Part(0, None, begun)
    with monkeypatch.context() as patched:
        patched.setattr(session.Session, "_each_step", stopped)
        with pytest.raises(Paused):
            points = {tmp_path / x: settings(x) for x in "db"}
            train_pack(points, **inputs, work=work, limits=Limits(part=part))
    points = {tmp_path / x: settings(x) for x in "da"}
    train_pack(points, **inputs, work=work, limits=Limits(part=part))
    assert all(apart(tmp_path / x, grid / x) < CLOSE for x in "da")


def test_another_rung_or_other_settings_are_not_taken(
    inputs: dict, rung: Callable, tmp_path: Path
) -> None:
    rung(tmp_path, "a", "one")
    (later,) = train(inputs, tmp_path / "rung", "a", Part(1, RUNG + 1, {}, "one", True))
    assert later["epochs"] == RUNG + 1
    (other,) = first(inputs, tmp_path, "a", code="one", lr=0.003)
    assert other["settings"]["lr"] == 0.003 and other["epochs"] == RUNG


@pytest.mark.parametrize("fault", ["damaged", "gone", "of other settings"])
def test_without_its_state_a_training_begins_again_to_the_same_end(
    inputs: dict,
    rung: Callable,
    grid: Path,
    tmp_path: Path,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = {"lr": 0.001} if fault == "of other settings" else {}
    if own:
        first(inputs, tmp_path, "ab", **own)
    else:
        rung(tmp_path, "ab")
    states = [tmp_path / "rung" / x / "state.pt" for x in "ab"]
    if fault == "damaged":
        states[0].write_bytes(states[0].read_bytes()[:-100])
    if fault == "gone":
        states[0].unlink()
    rest(inputs, tmp_path, "ab")
    assert "begins again" in caplog.text
    assert all(apart(tmp_path / x, grid / x) < CLOSE for x in "ab")


def test_a_point_that_failed_in_a_part_goes_on_from_its_rung(
    inputs: dict, rung: Callable, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out, made up; the next try has room."""
    backward = session.Fit._backward

    def full(self: session.Fit, batch: object, group: list[int]) -> list:
        if 4 in [self.points[i].settings.rank for i in group]:
            raise torch.OutOfMemoryError
        return backward(self, batch, group)

    rung(tmp_path, "abcd")
    with monkeypatch.context() as patched:
        patched.setattr(session.Fit, "_backward", full)
        with pytest.raises(UserError, match="memory ran out"):
            rest(inputs, tmp_path, "abcd")
    rest(inputs, tmp_path, "abcd")
    for x in "abcd":
        assert apart(tmp_path / x, grid / x) < CLOSE
        assert read_json(tmp_path / x / "train.json")["epochs"] == EPOCHS


def test_memory_that_runs_out_within_an_epoch_that_is_stopped(
    inputs: dict, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group ends its epoch as it began it; no step is taken twice."""
    steps: list[int] = []
    backward = session.Fit._backward

    def tight(self: session.Fit, batch: object, group: list[int]) -> list:
        if len(steps) == 3 and len(group) > 2:  # in the middle of an epoch
            raise torch.OutOfMemoryError
        return backward(self, batch, group)

    def stopped(self: session.Session) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise Paused("made up")

    with monkeypatch.context() as patched:
        patched.setattr(session.Fit, "_backward", tight)
        patched.setattr(session.Session, "_each_step", stopped)
        with pytest.raises(Paused):
            train(inputs, tmp_path, "abcd")
    train(inputs, tmp_path, "abcd")
    for x in "abcd":
        assert apart(tmp_path / x, grid / x) < CLOSE


def test_one_that_failed_costs_the_others_nothing(
    inputs: dict, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins again after a stop within an epoch; they go on."""
    steps: list[int] = []
    backward = session.Fit._backward

    def full(self: session.Fit, batch: object, group: list[int]) -> list:
        if steps and 4 in [self.points[i].settings.rank for i in group]:
            raise torch.OutOfMemoryError
        return backward(self, batch, group)

    def stopped(self: session.Session) -> None:
        steps.append(1)
        if len(steps) == 7:
            raise Paused("made up")

    with monkeypatch.context() as patched:
        patched.setattr(session.Fit, "_backward", full)
        patched.setattr(session.Session, "_each_step", stopped)
        with pytest.raises(Paused):
            train(inputs, tmp_path, "abcd")
    begun = {x: lines_of(tmp_path / x) for x in "abc"}
    assert all(len(x) > 1 for x in begun.values())
    train(inputs, tmp_path, "abcd")
    for x in "abcd":
        assert apart(tmp_path / x, grid / x) < CLOSE
    for x, lines in begun.items():
        assert lines_of(tmp_path / x)[: len(lines)] == lines  # with the times of the first try
