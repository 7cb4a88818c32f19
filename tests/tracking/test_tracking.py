"""MLflow from files: every point once, again without change, replaced when it changed.

Against a real store each time: an SQLite file, or a server that is started, killed and started.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed, write_text
from lora.plan.settings import TrainSettings
from lora.steps.track import track
from lora.tracking import live as live_module
from lora.tracking.live import Live
from lora.tracking.store import Store
from tests.support.models import make_model
from tests.support.store import Server, all_of
from tests.support.trainings import teacher_data


def make_results(folder: Path, rank: int = 4, error: float = 20.0) -> Path:
    """The files of two points, one trained and the foundation model alone."""
    name = "lora_r4_a1_s3"
    errors = {"n_structures": 3, "rmse_f_mev_per_a": error, "rmse_e_mev_per_atom": 1.0}
    sets = {s: {**errors, "config_types": {}} for s in ("valid", "test", "600K")}
    for point in (name, "foundation"):
        write_sealed(folder / "evaluate" / f"{point}.json", {"point": point, "sets": sets})
        write_sealed(folder / "merge" / point / "merge.json", {"dtype": "float64"})
    settings = asdict(TrainSettings(rank=rank, alpha=1.0, seed=3).resolved())
    record = {"settings": settings, "trainable_parameters": 10, "total_parameters": 100}
    record |= {"seconds": 5.0, "peak_memory_mb": 300, "key": f"key of rank {rank}"}
    record |= {"base_fingerprint": "b" * 16, "data_digest": "d" * 16}
    record |= {"machine": {"host": "here", "device": "a CPU", "commit": "c" * 40}}
    write_sealed(folder / "train" / name / "train.json", record)
    text = "".join(json.dumps(line) + "\n" for line in epochs())
    (folder / "train" / name / "metrics.jsonl").write_text(text)
    (folder / "data").mkdir(exist_ok=True)
    for part in ("train", "valid", "test"):
        (folder / "data" / f"{part}.xyz").write_text(part)
    return folder


def epochs() -> list[dict]:
    """The epochs of a training, as in metrics.jsonl."""
    return [
        {
            "epoch": i,
            "train_loss": None if i == 0 else 1.0 / i,
            "valid_loss": 2.0 / (i + 1),
            "valid_rmse_e_mev_per_atom": 3.0,
            "valid_rmse_f_mev_per_a": 30.0 - i,
            "lr": 0.01,
            "timestamp": 1.7e9 + i,
        }
        for i in range(5)
    ]


def choose(folder: Path, point: str) -> None:
    """Make a point the chosen one, with a real model and a figure."""
    write_sealed(folder / "report" / "best.json", {"point": point})
    (folder / "report" / "heatmap.svg").write_text("<svg/>")
    torch.save(make_model(), folder / "merge" / point / f"{point}.model")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()


LOSSES = [(line["epoch"], line["valid_loss"]) for line in epochs()]


POINTS = ["lora_r4_a1_s3", "foundation"]


@pytest.mark.slow
def test_filled_once_and_again(tmp_path: Path) -> None:
    import mlflow

    results = make_results(tmp_path / "it's results")
    first = track(results, POINTS, None, "exp")
    assert read_json(results / "track/runs.json") == first
    assert track(results, POINTS, None, "exp") == first  # nothing new, nothing twice
    client = mlflow.MlflowClient(first["uri"])
    runs = {r.info.run_name: r for r in client.search_runs([first["experiment_id"]])}
    assert set(runs) == set(POINTS)
    run = runs["lora_r4_a1_s3"]
    assert run.info.status == "FINISHED"
    assert run.data.params["lora_rank"] == "4" and run.data.params["method"] == "lora"
    assert run.data.metrics["test/rmse_f_mev_per_a"] == 20.0
    assert run.data.metrics["600K/rmse_e_mev_per_atom"] == 1.0
    history = client.get_metric_history(run.info.run_id, "val/rmse_f_mev_per_a")
    assert [(m.step, m.value) for m in history] == [(i, 30.0 - i) for i in range(5)]
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 4
    assert runs["foundation"].data.params == {"method": "foundation"}

    make_results(results, error=10.0)  # trained again: its run is replaced
    second = track(results, POINTS, None, "exp")
    assert second["runs"]["lora_r4_a1_s3"] != first["runs"]["lora_r4_a1_s3"]
    found = client.search_runs([first["experiment_id"]])
    assert len(found) == 2
    assert {r.data.metrics["test/rmse_f_mev_per_a"] for r in found} == {10.0}

    third = track(results, POINTS[:1], None, "exp")  # a point that left the sweep leaves the store
    assert set(third["runs"]) == {"lora_r4_a1_s3"}
    assert len(client.search_runs([first["experiment_id"]])) == 1


@pytest.mark.slow
def test_what_a_run_says(tmp_path: Path) -> None:
    import mlflow

    results = make_results(tmp_path / "results")
    found = track(results, POINTS, None, "exp")
    run = mlflow.MlflowClient(found["uri"]).get_run(found["runs"]["lora_r4_a1_s3"])
    params = run.data.params
    assert sorted(params)[:2] == ["lora_alpha", "lora_rank"]  # the axes of the contour plot
    assert params["provenance/base"] == "b" * 16 and params["provenance/data"] == "d" * 16
    assert params["seed"] == "3" and params["lr"] == "0.01" and "exclude" in params["targets"]
    assert run.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert run.data.tags["machine/host"] == "here"
    contexts = [t.value for d in run.inputs.dataset_inputs for t in d.tags]
    assert sorted(contexts) == ["testing", "training", "validation"]
    assert (run.info.start_time, run.info.end_time) == (1699999999000, 1700000004000)


@pytest.mark.slow
def test_the_chosen_model_is_registered_and_runs_as_its_card_says(tmp_path: Path) -> None:
    import mlflow

    results, point = make_results(tmp_path / "results"), POINTS[0]
    choose(results, point)
    first = track(results, POINTS, None, "exp")
    assert [track(results, POINTS, None, "exp") for _ in range(2)] == [first, first]
    client = mlflow.MlflowClient(first["uri"], first["uri"])
    name = first["model"].removeprefix("models:/").removesuffix("@best")
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.run_id == first["runs"][point] and version.tags["point"] == point
    files = {f.path for f in client.list_artifacts(first["runs"][point], "report")}
    assert "report/heatmap.svg" in files
    assert not client.list_artifacts(first["runs"]["foundation"], "report")

    code = version.description.split("```python\n")[1].split("```")[0]
    atoms = teacher_data(1, seed=1)[0]
    exec(code, {"atoms": atoms})
    mlflow.set_tracking_uri(None)
    assert abs(atoms.get_potential_energy()) < 1e4

    choose(results, "foundation")  # another choice: the alias follows, the old version goes
    second = track(results, POINTS, None, "exp")
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.run_id == second["runs"]["foundation"]
    assert client.get_model_version_by_alias(name, "best").version == version.version
    assert not client.list_artifacts(second["runs"][point], "report")


@pytest.mark.slow
def test_a_server_that_is_down_is_said_or_left_for_later(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = make_results(tmp_path)
    down = "http://127.0.0.1:9"
    with pytest.raises(UserError, match="127.0.0.1:9 did not take the runs.*nothing is lost"):
        track(results, POINTS, down, "exp")
    assert not (results / "track/runs.json").exists()
    for times in (1, 2):
        assert "runs" not in track(results, POINTS, down, "exp", or_later=True)
        assert read_json(results / "track/missed.json")["times"] == times
    assert "nothing is lost" in capsys.readouterr().out


def test_no_password_in_the_uri(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        track(tmp_path, [], "https://me:secret@host", "exp")
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
    results, point = make_results(tmp_path / "results"), POINTS[0]
    settings = TrainSettings(rank=4, alpha=1.0, seed=3).resolved()
    where = {"uri": server.uri, "experiment": "exp"}
    write_sealed(tmp_path / "live.json", where)
    lines = epochs()

    def seen() -> list:
        return all_of(server.uri, "exp").get(point, {"loss": []})["loss"]

    def until(count: int) -> None:
        end = time.monotonic() + 30
        while len(seen()) < count and time.monotonic() < end:
            time.sleep(0.2)
        assert seen() == LOSSES[:count]

    with caplog.at_level(logging.WARNING), Live(tmp_path / "live.json", results) as live:
        for line in lines[:2]:
            live(point, "key of rank 4", settings, line)
        until(2)
        server.kill()
        for line in lines[2:4]:
            live(point, "key of rank 4", settings, line)
        end = time.monotonic() + 60
        while "the training goes on" not in caplog.text and time.monotonic() < end:
            time.sleep(0.2)
        server.start()
        until(4)
    assert len([r for r in caplog.records if "the training goes on" in r.message]) == 1
    (run,) = all_of(server.uri, "exp")[point]["ids"]

    with Live(tmp_path / "live.json", results) as live:  # stopped and gone on with: the same run
        live(point, "key of rank 4", settings, lines[3])
    assert all_of(server.uri, "exp")[point] == {
        "ids": [run],
        "status": "RUNNING",
        "loss": LOSSES[:4],
    }
    for _ in range(3):  # filled up, once
        track(results, POINTS, **where)
        found = all_of(server.uri, "exp")
        assert found[point] == {"ids": [run], "status": "FINISHED", "loss": LOSSES}
        assert set(found) == set(POINTS)

    with Live(tmp_path / "live.json", results) as live:  # another training of that point
        live(point, "another key", settings, lines[0])
    assert all_of(server.uri, "exp")[point]["loss"] == LOSSES[:1]
    assert all_of(server.uri, "exp")[point]["ids"] != [run]


def test_live_never_ends_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = TrainSettings().resolved()
    with Live(None, tmp_path) as live:
        live("p", "k", settings, epochs()[0])
    write_text(tmp_path / "off.json", "null\n")
    with Live(tmp_path / "off.json", tmp_path) as live:
        live("p", "k", settings, epochs()[0])
    assert not caplog.records
    write_sealed(tmp_path / "odd.json", {"uri": "nonsense://x", "experiment": "exp"})
    with Live(tmp_path / "odd.json", tmp_path) as live:
        live("p", "k", settings, epochs()[0])
    assert len(caplog.records) == 1 and "the training goes on" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "server"])
def test_eight_at_once_lose_nothing(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Eight sweeps, each tracked by a process of its own into one store that does not exist yet."""
    where = f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}"
    uri = request.getfixturevalue("server").uri if kind == "server" else where
    folders = [make_results(tmp_path / f"sweep {i}") for i in range(8)]
    own = ["--uri", uri, "--experiment", "exp", "--points", *POINTS]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "lora.cli", "track", str(folder), *own],
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    ends = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 8, ends
    found = all_of(uri, "exp")
    assert {point: len(one["ids"]) for point, one in found.items()} == dict.fromkeys(POINTS, 8)
    with Store(folders[0], uri, "exp").writing() as store:
        for folder in folders:
            for run_id in read_json(folder / "track/runs.json")["runs"].values():
                history = store.client.get_metric_history(run_id, "val/loss")
                expected = LOSSES if history else []  # the foundation model was not trained
                assert [(m.step, m.value) for m in history] == expected
            lora = read_json(folder / "track/runs.json")["runs"][POINTS[0]]
            assert len(store.client.get_metric_history(lora, "val/loss")) == len(LOSSES)
