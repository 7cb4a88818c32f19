"""Fill an MLflow store from the files of a sweep."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora.files.sealed import read_json
from lora.plan.sweep import Sweep
from lora.tracking.names import title_of
from lora.tracking.parity import TABLE, parity_of
from lora.tracking.registry import ALIAS, Package, delete_models, example_of, register
from lora.tracking.run import Judged, Run, datasets, read_run
from lora.tracking.store import DIGEST, KEY, NOTE, Store, page_of
from lora.tracking.view import CHOOSES, COLOUR, colour_of, compare_page, varied, view_of
from lora.tracking.words import about_model, about_run


def fill_store(
    store: Store, sweep: Sweep, model: str, judged: Mapping[str, Judged], loader: Path
) -> dict[str, Any]:
    """Make runs, registered model and view of a sweep what its files say.

    Args:
        store: The store, connected.
        sweep: The sweep.
        model: The name to register the chosen model by.
        judged: What the choice says of each point.
        loader: The Python file that loads the registered model.

    Returns:
        experiment_id, model, logged_model, page, charts, parity, compare and runs, {point: run id}.

    Raises:
        UserError: A file is missing, damaged or edited.
    """
    best = sweep.layout.receipt("choose")
    chosen = read_json(best)["point"] if best.is_file() else ""
    known = store.runs()
    runs, metrics, errors = {}, set(), {}
    for point in sweep.tracked:
        own = (sweep.stopped.get(point, 0), judged.get(point, Judged()))
        run = read_run(sweep.layout, point, point == chosen, *own)
        metrics |= {name for name, *_ in run.metrics}
        runs[point] = _log_point(store, sweep, point, run, known.pop(point, []))
        errors[point] = next((x for name, x, *_ in run.metrics if name == CHOOSES), math.inf)
    for gone in known.values():  # of points that are no longer in the sweep
        _delete(store, gone)
    logged = None
    if chosen in runs:
        logged = register(store, _package(store, sweep, model, chosen, loader), runs[chosen])
    for point in runs.keys() - {chosen}:  # what was chosen before
        delete_models(store, runs[point])
    trained = [point for point in runs if sweep.points[point].settings]
    compared = {runs[point]: errors[point] for point in trained or runs}
    axes = varied(sweep.points.values())
    page = store.show(view_of(store.sweep, metrics, axes))
    charts = store.show(view_of(store.sweep, metrics, axes, charts=True), "-charts")
    ids = {"experiment_id": store.experiment_id, "logged_model": logged}
    ids["model"] = f"models:/{model}@{ALIAS}" if logged else None
    pages = {"page": page, "charts": f"{charts}&compareRunsMode=CHART"}
    pages["parity"] = f"{page}&compareRunsMode=ARTIFACT"
    pages["compare"] = compare_page(store.experiment_id, compared)
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
        kept = kept or store.start(point, title_of(sweep.config), {KEY: run.key}, run.started)
        _fill(store, sweep, point, kept, run)
        store.finish(kept, {DIGEST: run.content}, run.ended)
    _delete(store, [x for x in known if x.info.run_id != kept])
    return kept


def _fill(store: Store, sweep: Sweep, point: str, run_id: str, run: Run) -> None:
    """Write all of a point to its run; what is there already stays as it is."""
    results = sweep.layout.results
    origin = sweep.points[point].origin
    tags = {COLOUR: colour_of(run.params["method"])} | ({"origin": origin} if origin else {})
    page = page_of(store.experiment_id, store.sweep)
    tags[NOTE] = about_run(sweep, point, run, page)
    store.log(run_id, run.params, run.metrics, run.tags | tags)
    store.log_datasets(run_id, datasets(results))
    for path in run.files:
        store.client.log_artifact(run_id, str(path), str(path.parent.relative_to(results)))
    config = {k: v for k, v in sweep.config.to_dict().items() if k != "results"}  # it can be moved
    store.client.log_dict(run_id, config, "config.json")
    if run.sets and (table := parity_of(sweep.layout.parity(point))):
        store.log_table(run_id, table, TABLE)


def _delete(store: Store, runs: list[Any]) -> None:
    for run in runs:
        delete_models(store, run.info.run_id)
        store.client.delete_run(run.info.run_id)
        if store.is_local:  # MLflow keeps their files
            shutil.rmtree(store.artifacts / run.info.run_id, ignore_errors=True)


def _package(store: Store, sweep: Sweep, name: str, point: str, loader: Path) -> Package:
    """Return the chosen model, with what to know of it."""
    layout, title = sweep.layout, title_of(sweep.config)
    file = layout.model(point)
    sets = read_json(layout.errors(point))["sets"]
    merged = read_json(file.with_name("merge.json"))
    trained = layout.training(point) / "train.json"
    result = read_json(trained) if trained.is_file() else {}
    facts = {
        "point": point,
        "made": title,
        "dtype": merged.get("dtype", ""),
        "elements": " ".join(merged.get("fine_tuned_elements", [])),
        "base_fingerprint": result.get("base_fingerprint", ""),
        "data_digest": result.get("data_digest", ""),
        "fingerprint": merged.get("fingerprint", ""),
    }
    text = about_model(name, store.shown, title, facts, sets)
    example = example_of(layout.split("valid"))
    known = {k: v for k, v in facts.items() if v}
    return Package(name, point, file, loader, example, known, text)
