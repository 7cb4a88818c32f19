"""MLflow from files: every point once, again without change, replaced when it changed.

Against a real store each time: an SQLite file, or a server that is started, killed and started.
"""

import json
import logging
import math
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from ase.io import read, write

from lora.catalogue.columns import EPOCH_METRICS
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed, write_text
from lora.plan.config import Config
from lora.plan.settings import TrainSettings
from lora.plan.sweep import Sweep
from lora.selection.choose import Choice
from lora.steps.track import TrackSettings, track
from lora.tracking import live as live_module
from lora.tracking.live import Live
from lora.tracking.run import COUNTS, read_run
from lora.tracking.store import Store, store_uri
from lora.tracking.view import COLUMNS, compare_page
from tests.support import counts, forkserver
from tests.support.models import make_model
from tests.support.results import epoch, make_sweep, train, write_results
from tests.support.store import Server, all_of
from tests.support.trainings import teacher_data


def make_results(folder: Path, rank: int = 4, error: float = 20.0) -> Sweep:
    """Write the files of two points, one trained and the foundation model alone."""
    grid = {"rank": [rank], "alpha": [1]}
    sweep = make_sweep(folder, grid=grid, baselines=["foundation"])
    layout = sweep.layout
    errors = {"n_structures": 3, "rmse_f_mev_per_a": error, "rmse_e_mev_per_atom": 1.0}
    sets = {s: {**errors, "config_types": {}} for s in ("valid", "test", "600K")}
    for point in sweep.points.values():
        write_sealed(layout.errors(point.name), {"point": point.name, "sets": sets})
        write_sealed(layout.model(point.name).with_name("merge.json"), {"dtype": "float64"})
        if point.settings:
            result = train(sweep, point)
            lines = "".join(json.dumps(epoch(i)) + "\n" for i in range(5))
            write_text(layout.training(point.name) / "metrics.jsonl", lines)
            result |= {"seconds": 5.0, "key": f"key of rank {rank}"}
            write_sealed(layout.training(point.name) / "train.json", result)
    layout.split("train").parent.mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid", "test"):
        write(layout.split(part), teacher_data(1, seed=len(part)), format="extxyz")
    return sweep


def epochs() -> list[dict]:
    """Return the epochs of a training, as in metrics.jsonl."""
    return [epoch(i) for i in range(5)]


def choose(sweep: Sweep, point: str, verdicts: dict | None = None) -> None:
    """Make a point the chosen one, with a real model and a figure."""
    choice = Choice(point, point, "rmse_f_mev_per_a", [], verdicts or {})
    write_sealed(sweep.layout.receipt("choose"), choice.to_dict())
    sweep.layout.figures.mkdir(parents=True, exist_ok=True)
    sweep.layout.figure("heatmap").write_text("<svg/>")
    torch.save(make_model(), sweep.layout.model(point))


EXP = TrackSettings(experiment="exp")
# as MLflow holds them: four digits
LOSSES = [(line["epoch"], float(f"{line['valid_loss']:.4g}")) for line in epochs()]
TITLE = "base on data"


POINTS = ["lora_r4_a1_s3", "foundation"]


@pytest.mark.slow
def test_filled_once_and_again(tmp_path: Path) -> None:
    import mlflow

    sweep = make_results(tmp_path / "it's results")
    first = track(sweep, EXP)
    assert read_json(sweep.layout.receipt("track")) == first
    assert track(sweep, EXP) == first  # nothing new, nothing twice
    client = mlflow.MlflowClient(store_uri(sweep.layout.results))
    runs = {r.info.run_name: r for r in client.search_runs([first["experiment_id"]])}
    assert set(runs) == {f"{point}: {TITLE}" for point in POINTS}
    run = runs[f"lora_r4_a1_s3: {TITLE}"]
    assert run.info.status == "FINISHED"
    assert run.data.params["lora_rank"] == "4" and run.data.params["method"] == "lora"
    assert run.data.metrics["test/rmse_f_mev_per_a"] == 20.0
    assert run.data.metrics["600K/rmse_e_mev_per_atom"] == 1.0
    assert run.data.metrics["valid/rmse_f_mev_per_a"] == 20.0  # that of the model, shown once
    assert not run.data.metrics.keys() & run.data.params.keys()
    assert run.data.metrics["trainable_parameters"] == 400 and run.data.metrics["seconds"] == 5.0
    history = client.get_metric_history(run.info.run_id, "valid/rmse_f_mev_per_a")
    curve = [(i, 30.0 - i) for i in range(5)]
    assert [(m.step, m.value) for m in history] == [*curve, (4, 20.0)]
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 4
    assert runs[f"foundation: {TITLE}"].data.params == {"method": "foundation"}

    sweep = make_results(tmp_path / "it's results", error=10.0)  # evaluated again: a new run
    second = track(sweep, EXP)
    assert second["runs"]["lora_r4_a1_s3"] != first["runs"]["lora_r4_a1_s3"]
    found = client.search_runs([first["experiment_id"]])
    assert len(found) == 2
    assert {r.data.metrics["test/rmse_f_mev_per_a"] for r in found} == {10.0}

    left = replace(sweep, points={x: sweep.points[x] for x in POINTS[:1]})
    third = track(left, EXP)  # a point that left the sweep leaves the store
    assert set(third["runs"]) == {"lora_r4_a1_s3"}
    assert len(client.search_runs([first["experiment_id"]])) == 1


@pytest.mark.slow
def test_what_a_run_says(tmp_path: Path) -> None:
    import mlflow

    sweep = make_results(tmp_path)
    found = track(sweep, EXP)
    run = mlflow.MlflowClient(store_uri(sweep.layout.results)).get_run(
        found["runs"]["lora_r4_a1_s3"]
    )
    params = run.data.params
    assert sorted(params)[:2] == ["lora_alpha", "lora_rank"]  # the axes of the contour plot
    assert params["provenance/base"] == "b" * 16 and params["provenance/data"] == "d" * 16
    assert params["seed"] == "3" and params["lr"] == "0.01" and "exclude" in params["targets"]
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["machine/host"] == "here"
    contexts = [t.value for d in run.inputs.dataset_inputs for t in d.tags]
    assert sorted(contexts) == ["testing", "training", "validation"]
    assert (run.info.start_time, run.info.end_time) == (1699999999000, 1700000004000)
    said = run.data.tags["mlflow.note.content"]
    for words in (TITLE, "b" * 16, "d" * 16, "validation set: energy 1 meV/atom, forces 20 meV"):
        assert words in said
    assert run.data.tags["mlflow.runColor"].startswith("#")


@pytest.mark.slow
def test_the_chosen_model_is_registered_and_runs_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    sweep, point = make_results(tmp_path), POINTS[0]
    monkeypatch.chdir(sweep.layout.results.resolve().parent)
    choose(sweep, point)
    first = track(sweep, EXP)
    assert [track(sweep, EXP) for _ in range(2)] == [first, first]
    client = mlflow.MlflowClient(store_uri(sweep.layout.results), store_uri(sweep.layout.results))
    name = first["model"].removeprefix("models:/").removesuffix("@best")
    assert name == "base-on-data"
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.run_id == first["runs"][point] and version.tags["point"] == point
    assert version.version == 1  # filled three times
    files = {f.path for f in client.list_artifacts(first["runs"][point], "report/figures")}
    assert "report/figures/heatmap.svg" in files
    assert not client.list_artifacts(first["runs"]["foundation"], "report")

    code = "".join(x.split("```")[0] for x in version.description.split("```python\n")[1:])
    write("start.xyz", teacher_data(1, seed=1), format="extxyz")
    names: dict = {"atoms": read("start.xyz")}
    exec(code, names)
    mlflow.set_tracking_uri(None)
    energy = names["atoms"].get_potential_energy()
    assert names["table"]["energy"][0] == pytest.approx(energy, abs=1e-9)

    choose(sweep, "foundation")  # another choice: the alias follows, the old version goes
    second = track(sweep, EXP)
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.run_id == second["runs"]["foundation"]
    assert client.get_model_version_by_alias(name, "best").version == version.version
    assert not client.list_artifacts(second["runs"][point], "report")


@pytest.mark.slow
def test_a_server_that_is_down_is_said_or_left_for_later(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sweep = make_results(tmp_path)
    down = TrackSettings("http://127.0.0.1:9", "exp")
    with pytest.raises(UserError, match="127.0.0.1:9 could not be reached.*Results are safe"):
        track(sweep, down)
    assert not sweep.layout.receipt("track").exists()
    for times in (1, 2):
        assert "runs" not in track(sweep, replace(down, or_later=True))
        assert read_json(sweep.layout.missed)["times"] == times
    assert "Results are safe" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("calls", [2, 1, 3][: counts.of(1, 3)])
def test_a_server_that_is_killed_while_it_is_filled(
    tmp_path: Path, server: Server, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a run in it: filled up once it is back, one run a point."""
    sweep, log, left = make_results(tmp_path), Store.log, [calls]

    def deadly(self: Store, *args: object, **own: object) -> None:
        left[0] -= 1
        if not left[0]:
            server.kill()
        log(self, *args, **own)

    monkeypatch.setattr(Store, "log", deadly)
    where = TrackSettings(server.uri, "exp")
    with pytest.raises(UserError, match="could not be reached"):
        track(sweep, where)
    monkeypatch.setattr(Store, "log", log)
    server.start()
    track(sweep, where)
    found = all_of(server.uri, "exp")
    assert set(found) == set(POINTS)
    assert all(len(x["ids"]) == 1 and x["status"] == "FINISHED" for x in found.values())
    assert found[POINTS[0]]["loss"] == LOSSES


def test_no_password_in_the_uri(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        track(make_sweep(tmp_path), TrackSettings("https://me:secret@host", "exp"))
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_live_through_a_server_that_dies(
    tmp_path: Path,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told of its epochs as they come; down: one warning; up again: the rest; `track`: all."""
    monkeypatch.setattr(live_module, "PAUSE", 1.0)
    point, where = POINTS[0], {"uri": server.uri, "experiment": "exp"}
    sweep = with_tracking(make_results(tmp_path), live=True, **where)
    settings = TrainSettings(rank=4, alpha=1.0, seed=3).resolved()
    lines = epochs()

    def seen() -> list:
        return all_of(server.uri, "exp").get(point, {"loss": []})["loss"]

    def until(count: int) -> None:
        end = time.monotonic() + 30
        while len(seen()) < count and time.monotonic() < end:
            time.sleep(0.2)
        assert seen() == LOSSES[:count]

    with caplog.at_level(logging.WARNING), Live(sweep) as live:
        for line in lines[:2]:
            live(point, "key of rank 4", settings, line)
        until(2)
        server.kill()
        for line in lines[2:4]:
            live(point, "key of rank 4", settings, line)
        end = time.monotonic() + 60
        while "The training goes on" not in caplog.text and time.monotonic() < end:
            time.sleep(0.2)
        server.start()
        until(4)
    assert len([r for r in caplog.records if "The training goes on" in r.message]) == 1
    (run,) = all_of(server.uri, "exp")[point]["ids"]

    with Live(sweep) as live:  # stopped and gone on with: the same run
        live(point, "key of rank 4", settings, lines[3])
    assert all_of(server.uri, "exp")[point] == {
        "ids": [run],
        "status": "RUNNING",
        "loss": LOSSES[:4],
    }
    for _ in range(3):  # filled up, once
        track(sweep, TrackSettings(**where))
        found = all_of(server.uri, "exp")
        assert found[point] == {"ids": [run], "status": "FINISHED", "loss": LOSSES}
        assert set(found) == set(POINTS)

    with Live(sweep) as live:  # another training of that point
        live(point, "another key", settings, lines[0])
    assert all_of(server.uri, "exp")[point]["loss"] == LOSSES[:1]
    assert all_of(server.uri, "exp")[point]["ids"] != [run]


def with_tracking(sweep: Sweep, **tracking: object) -> Sweep:
    """Return a sweep with other settings of tracking."""
    raw = sweep.config.to_dict()
    return replace(sweep, config=Config.model_validate(raw | {"tracking": tracking}))


def test_live_never_ends_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = TrainSettings().resolved()
    sweep = make_sweep(tmp_path)
    off = with_tracking(sweep, uri="nonsense://x", live=False)
    for quiet in (None, sweep, off):
        with Live(quiet) as live:
            live("p", "k", settings, epochs()[0])
    assert not caplog.records
    with Live(with_tracking(sweep, uri="nonsense://x", live=True)) as live:
        live("p", "k", settings, epochs()[0])
    assert len(caplog.records) == 1 and "The training goes on" in caplog.text


@pytest.mark.parametrize("leftovers", [False, True])
def test_a_training_that_failed_has_its_epochs_and_no_errors(
    tmp_path: Path, leftovers: bool
) -> None:
    sweep, lost = make_sweep(tmp_path), "lora_r2_a8_s3"
    checks = {name: {"nve": 0.5} for name in sweep.points}
    write_results(sweep, dict.fromkeys(sweep.points, 60.0), [lost], checks, leftovers)
    names = {x: {m[0] for m in read_run(sweep.layout, x, False).metrics} for x in sweep.points}
    assert {"check/nve", "test/rmse_f_mev_per_a", "valid/mae_e_mev_per_atom"} < names["full_s3"]
    used = {"system/process_cpu_percentage", "system/process_memory_megabytes"}
    assert names[lost] == {*EPOCH_METRICS.values(), *COUNTS.values(), *used}
    run = read_run(sweep.layout, lost, False)
    assert run.tags["failed"] == "memory ran out in epoch 3"
    assert (run.started, run.ended) == (1699999988500, 1700000003000)


def test_mlflows_table_shows_what_the_catalogue_says() -> None:
    shown = [
        "tags.`chosen`",
        *(f"metrics.`valid/rmse_{x}`" for x in ("f_mev_per_a", "e_mev_per_atom")),
        *("metrics.`check/forgetting`", "metrics.`checks_failed`"),
        *(f"params.`{x}`" for x in ("method", "lora_rank", "lora_alpha", "seed")),
        *(f"metrics.`test/rmse_{x}`" for x in ("f_mev_per_a", "e_mev_per_atom")),
        *("metrics.`trainable_parameters`", "metrics.`seconds`"),
    ]
    assert shown == COLUMNS


def test_of_many_runs_the_best_are_compared() -> None:
    def compared(runs: dict[str, float]) -> list[str]:
        query = parse_qs(urlsplit(compare_page("7", runs)[2:]).query)
        return json.loads(query["runs"][0])

    errors = {f"run{i}": float(i * 37 % 120) for i in range(120)}  # 37 and 120 share no factor
    found = compared(errors)
    assert sorted(errors[run] for run in found) == list(range(50))
    assert found == [run for run in errors if run in found]  # the sweep's order
    assert compared({"b": 2.0, "a": math.inf}) == ["b", "a"]  # with one that failed


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", ["file", "server"])
def test_many_at_once_lose_nothing(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Sweeps, each tracked by a process of its own into one store that does not exist yet."""
    where = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}"
    uri = request.getfixturevalue("server").uri if kind == "server" else where
    n = counts.of({"file": 4, "server": 3}[kind], 8)
    sweeps = [make_results(tmp_path / f"sweep {i}") for i in range(n)]
    folders = [sweep.layout.results for sweep in sweeps]
    own = ["--uri", uri, "--experiment", "exp"]
    started = [
        subprocess.Popen(
            ["mace-lora", "track", str(folder), *own],
            env=os.environ | forkserver.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    ends = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * n, ends
    found = all_of(uri, "exp")
    assert {point: len(one["ids"]) for point, one in found.items()} == dict.fromkeys(POINTS, n)
    with Store(folders[0], uri, "exp").writing() as store:
        for folder in folders:
            for run_id in read_json(folder / "track/runs.json")["runs"].values():
                history = store.client.get_metric_history(run_id, "valid/loss")
                expected = LOSSES if history else []  # the foundation model was not trained
                assert [(m.step, m.value) for m in history] == expected
            lora = read_json(folder / "track/runs.json")["runs"][POINTS[0]]
            assert len(store.client.get_metric_history(lora, "valid/loss")) == len(LOSSES)
