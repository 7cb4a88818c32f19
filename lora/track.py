"""Step `track`: fill MLflow from the files of a sweep.

    track/runs.json

The files are the truth and this step only copies them, so it can run as often as one likes:
a run is found again by its sweep and point, left alone if its content digest is the same, and
replaced if not.  The only module that imports mlflow, and the only writer to its store.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from lora.config import UserError
from lora.files import digest, read_json, write_json

log = logging.getLogger(__name__)

# a server that is down shall cost seconds, not minutes; the UI needs none of the job workers
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

SWEEP, POINT, DIGEST = "sweep_id", "point", "content_digest"
EPOCH_METRICS = {
    "train_loss": "train/loss",
    "valid_loss": "val/loss",
    "valid_rmse_e_mev_per_atom": "val/rmse_e_mev_per_atom",
    "valid_rmse_f_mev_per_a": "val/rmse_f_mev_per_a",
    "lr": "train/lr",
}


def track(results: str | Path, points: list[str], uri: str | None, experiment: str) -> dict:
    """Log every point of a sweep to MLflow, one flat run each.

    Args:
        results: the results folder of the sweep
        points: names of the points to log
        uri: tracking store; None is an SQLite file under `results`
        experiment: name of the MLflow experiment, made if need be

    Returns the contents of track/runs.json: {"uri", "experiment_id", "runs": {point: run id}}.

    Raises UserError: the store cannot be reached.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    results = Path(results)
    uri = uri or store_uri(results)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = mlflow.MlflowClient(tracking_uri=uri)
    try:
        experiment_id = _experiment(client, experiment, results)
        runs = {point: _log_point(client, experiment_id, results, point) for point in points}
        _forget_others(client, experiment_id, results, set(runs.values()))
    except MlflowException as error:
        raise UserError(
            f"tracking: {uri.split('@')[-1]} did not take the runs ({str(error).splitlines()[0]}); "
            "nothing is lost, run again when it is back"
        ) from None
    result = {"uri": uri, "experiment_id": experiment_id, "experiment": experiment, "runs": runs}
    write_json(results / "track" / "runs.json", result)
    return result


def store_uri(results: Path) -> str:
    """The store that needs no server: an SQLite file under the results folder."""
    folder = results.resolve() / "track"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def sweep_id(results: Path) -> str:
    """What ties the runs of a sweep together: a digest of where its results lie."""
    return hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:12]


def _experiment(client: Any, name: str, results: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "active":
        return found.experiment_id
    if found:
        client.restore_experiment(found.experiment_id)
        return found.experiment_id
    local = client.tracking_uri.startswith("sqlite:")
    artifacts = (results.resolve() / "track" / "artifacts").as_uri() if local else None
    return client.create_experiment(name, artifact_location=artifacts)


def _log_point(client: Any, experiment_id: str, results: Path, point: str) -> str:
    """Find or make the run of one point, and fill it.  Returns its id."""
    files = _files(results, point)
    content = digest(*files)
    sweep = sweep_id(results)
    where = f"tags.{SWEEP} = '{sweep}' and tags.{POINT} = '{point}'"
    for run in client.search_runs([experiment_id], where):
        if run.data.tags.get(DIGEST) == content and run.info.status == "FINISHED":
            return run.info.run_id
        client.delete_run(run.info.run_id)  # half written, or of an older training
    tags = {SWEEP: sweep, POINT: point, DIGEST: content, "results": str(results.resolve())}
    run = client.create_run(experiment_id, run_name=point, tags=tags)
    _fill(client, run.info.run_id, results, point, files)
    client.set_terminated(run.info.run_id, "FINISHED")
    return run.info.run_id


def _fill(client: Any, run_id: str, results: Path, point: str, files: list[Path]) -> None:
    from mlflow.entities import Metric, Param

    evaluated = read_json(results / "evaluate" / f"{point}.json")
    trained = results / "train" / point / "train.json"
    settings = read_json(trained)["settings"] if trained.is_file() else {"method": "foundation"}
    params = {f"train/{k}": v for k, v in settings.items() if k not in ("rank", "alpha")}
    params["method"] = params.pop("train/method")
    if params["method"] == "lora":
        params |= {"lora_rank": settings["rank"], "lora_alpha": settings["alpha"]}
    now = int(1000 * (results / "evaluate" / f"{point}.json").stat().st_mtime)
    # test errors first: the UI's parallel coordinates take the first-logged metric
    metrics = [
        Metric(f"{'val_final' if name == 'valid' else name}/{key}", value, now, 0)
        for name, values in sorted(evaluated["sets"].items(), key=lambda x: x[0] != "test")
        for key, value in values.items()
        if isinstance(value, float)
    ]
    if trained.is_file():
        record = read_json(trained)
        for key in ("trainable_parameters", "total_parameters", "seconds", "peak_memory_mb"):
            metrics.append(Metric(key, float(record[key]), now, 0))
        for line in map(json.loads, (trained.parent / "metrics.jsonl").read_text().splitlines()):
            stamp = int(1000 * line["timestamp"])
            metrics += [
                Metric(name, line[key], stamp, line["epoch"])
                for key, name in EPOCH_METRICS.items()
                if line[key] is not None
            ]
    client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    for path in files:
        client.log_artifact(run_id, str(path), str(path.parent.relative_to(results)))


def _files(results: Path, point: str) -> list[Path]:
    """What a run is made of, in a fixed order."""
    trained = results / "train" / point
    candidates = [
        results / "evaluate" / f"{point}.json",
        results / "merge" / point / "merge.json",
        trained / "train.json",
        trained / "metrics.jsonl",
        trained / "adapter" / "adapter.json",
        trained / "adapter" / "adapter.safetensors",
    ]
    return [path for path in candidates if path.is_file()]


def _forget_others(client: Any, experiment_id: str, results: Path, keep: set[str]) -> None:
    """Delete runs of this sweep whose points are no longer in it."""
    where = f"tags.{SWEEP} = '{sweep_id(results)}'"
    for run in client.search_runs([experiment_id], where, max_results=10_000):
        if run.info.run_id not in keep:
            client.delete_run(run.info.run_id)
