"""MLflow from files: every point once, again without change, replaced when it changed."""

import json
from pathlib import Path

import pytest

from lora.config import UserError
from lora.files import read_json, write_json
from lora.track import track


def make_results(folder: Path, rank: int = 4, error: float = 20.0) -> Path:
    """The files of two points, one trained and the foundation model alone."""
    name = "lora_r4_a1_s3"
    errors = {"n_structures": 3, "rmse_f_mev_per_a": error, "rmse_e_mev_per_atom": 1.0}
    sets = {s: {**errors, "config_types": {}} for s in ("valid", "test", "600K")}
    for point in (name, "foundation"):
        write_json(folder / "evaluate" / f"{point}.json", {"point": point, "sets": sets})
        write_json(folder / "merge" / point / "merge.json", {"dtype": "float64"})
    settings = {"method": "lora", "rank": rank, "alpha": 1.0, "seed": 3, "lr": 0.01}
    record = {"settings": settings, "trainable_parameters": 10, "total_parameters": 100}
    record |= {"seconds": 5.0, "peak_memory_mb": 300}
    write_json(folder / "train" / name / "train.json", record)
    lines = [
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
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "train" / name / "metrics.jsonl").write_text(text)
    return folder


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
def test_a_server_that_is_down_is_said(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    with pytest.raises(UserError, match="127.0.0.1:9 did not take the runs.*nothing is lost"):
        track(results, POINTS, "http://127.0.0.1:9", "exp")
    assert not (results / "track/runs.json").exists()
