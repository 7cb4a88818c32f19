"""Fill an MLflow store from the files of a sweep."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from lora.files.sealed import digest, read_json
from lora.plan.sweep import Sweep
from lora.tracking.run import Run, datasets, read_run
from lora.tracking.store import DIGEST, KEY, Store
from lora.tracking.view import compare_page, model_card, view_of

ALIAS = "best"


def fill_store(store: Store, sweep: Sweep, model: str) -> dict[str, Any]:
    """Make runs, registered model and view of a sweep what its files say.

    Args:
        store: The store, connected.
        sweep: The sweep.
        model: The name to register the chosen model by.

    Returns:
        experiment_id, model, page, charts, compare and runs, {point: run id}.

    Raises:
        UserError: A file is missing, damaged or edited.
    """
    best = sweep.layout.receipt("choose")
    chosen = read_json(best)["point"] if best.is_file() else ""
    known = store.runs()
    runs, metrics = {}, set()
    for point in sweep.tracked:
        run = read_run(sweep.layout, point, point == chosen, sweep.stopped.get(point, 0))
        metrics |= {name for name, *_ in run.metrics}
        runs[point] = _log_point(store, sweep, point, run, known.pop(point, []))
    for gone in known.values():  # of points that are no longer in the sweep
        _delete(store, gone)
    if chosen in runs:
        _register(store, sweep, model, chosen, runs[chosen])
    page = store.show(view_of(store.sweep, metrics))
    registered = f"models:/{model}@{ALIAS}" if chosen in runs else None
    pages = {"page": page, "charts": f"{page}&compareRunsMode=CHART"}
    pages["compare"] = compare_page(store.experiment_id, list(runs.values()))
    ids = {"experiment_id": store.experiment_id, "model": registered}
    return ids | pages | {"runs": runs}


def _log_point(store: Store, sweep: Sweep, point: str, run: Run, known: list[Any]) -> str:
    """Find, fill up or make the run of one point; return its id."""
    finished = [x for x in known if x.info.status == "FINISHED"]
    same = [x for x in finished if x.data.tags.get(DIGEST) == run.content]
    begun = [
        x
        for x in known
        if x.info.status == "RUNNING" and run.key and x.data.tags.get(KEY) == run.key
    ]
    kept = str((same or begun)[0].info.run_id) if same or begun else ""
    if not same:
        kept = kept or store.start(point, {KEY: run.key}, run.started)
        _fill(store, sweep, point, kept, run)
        store.finish(kept, {DIGEST: run.content}, run.ended)
    _delete(store, [x for x in known if x.info.run_id != kept])
    return kept


def _fill(store: Store, sweep: Sweep, point: str, run_id: str, run: Run) -> None:
    """Write all of a point to its run; what is there already stays as it is."""
    results = sweep.layout.results
    origin = sweep.points[point].origin
    store.log(run_id, run.params, run.metrics, run.tags | ({"origin": origin} if origin else {}))
    store.log_datasets(run_id, datasets(results))
    for path in run.files:
        store.client.log_artifact(run_id, str(path), str(path.parent.relative_to(results)))
    config = {k: v for k, v in sweep.config.to_dict().items() if k != "results"}  # it can be moved
    store.client.log_dict(run_id, config, "config.json")


def _delete(store: Store, runs: list[Any]) -> None:
    for run in runs:
        store.client.delete_run(run.info.run_id)
        if store.is_local:  # MLflow keeps their files
            shutil.rmtree(store.artifacts / run.info.run_id, ignore_errors=True)


def _register(store: Store, sweep: Sweep, name: str, point: str, run_id: str) -> None:
    """Make the chosen model the newest version of a registered one, with how to load it."""
    file = sweep.layout.model(point)
    content = digest(file)
    versions = store.versions_of(name)
    same = [v for v in versions if v.run_id == run_id and v.tags.get(DIGEST) == content]
    if same:
        version = same[0].version
    else:
        evaluated = read_json(sweep.layout.errors(point))["sets"]
        merged = read_json(file.with_name("merge.json"))
        card = model_card(name, store.shown, point, evaluated, merged)
        with tempfile.TemporaryDirectory() as folder:
            readme = Path(folder, "README.md")
            readme.write_text(card)
            for path in (readme, file):
                store.client.log_artifact(run_id, str(path), "model")
        tags = {DIGEST: content, "point": point, "sweep_id": store.sweep}
        made = store.client.create_model_version(
            name, f"runs:/{run_id}/model", run_id, tags=tags, description=card
        )
        version = made.version
    store.client.set_registered_model_alias(name, ALIAS, version)
    for old in versions:  # their runs are gone, or hold another model
        if old.version != version and old.tags.get("sweep_id") == store.sweep:
            store.client.delete_model_version(name, old.version)
