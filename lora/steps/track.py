"""Step `track`: fill MLflow from the files of a sweep.

track/runs.json, and missed.json where the store could not be reached

The files are the truth and this step only copies them, so it can run as often as one likes: the
run of a point is left alone if its content digest is the same, filled up if it was begun while
the point trained, and else made anew and the old one deleted.
"""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import Receipt, count_up
from lora.plan.sweep import Sweep
from lora.selection.choose import read_choice
from lora.tracking.content import content_of
from lora.tracking.fill import fill_store
from lora.tracking.names import model_name
from lora.tracking.run import Judged
from lora.tracking.store import Store

log = logging.getLogger(__name__)
LOADER = "lora.export.mace_pyfunc"


@dataclass(frozen=True)
class TrackSettings:
    """Where runs go.

    uri:        http(s)://server; None is an SQLite file in the results folder
    experiment: the name of the MLflow experiment, made if need be
    model:      the name of the registered model; None is that of base and data, on a server with
                the sweep's id
    named:      whether the user named uri outside of the config: it may get credentials
    or_later:   where the store does not take all, note it in missed.json and raise nothing
    """

    uri: str | None = None
    experiment: str = "mace-lora-sweep"
    model: str | None = None
    or_later: bool = False
    named: bool = True


def track(sweep: Sweep, settings: TrackSettings, receipt: Receipt | None = None) -> dict[str, Any]:
    """Log every point of a sweep to MLflow, one flat run each, and register the chosen model.

    Args:
        sweep: The sweep; its results may be those of a part of it.
        settings: Where runs go.
        receipt: Where to write what is returned; None is track/runs.json.

    Returns:
        {"uri" (None for the SQLite file, of which "place" and "logged" stand for its place and its
        content), "experiment"} and, where the store was reached, {"experiment_id", "model",
        "logged_model" (its id), "page", "charts", "parity", "compare" (addresses in MLflow's UI),
        "runs": {point: run id}}.

    Raises:
        UserError: The store cannot be reached.
    """
    layout = sweep.layout
    store = Store(layout.results, settings.uri, settings.experiment, settings.named)
    found: dict[str, Any] = {"uri": settings.uri, "experiment": settings.experiment}
    name = settings.model or model_name(sweep.config, "" if store.is_local else store.sweep)
    judged = _judged(sweep) if layout.receipt("choose").is_file() else {}
    try:
        with store.writing():
            found |= fill_store(store, sweep, name, judged, _loader())
    except UserError as error:
        if not settings.or_later:
            raise
        log.warning("%s", error)
        print(error)  # the log of a job is not where one looks
        count_up(layout.missed, why=str(error))
    files: list[Path] = []
    if store.is_local:
        runs = found.get("runs", {}).values()
        found |= {"logged": content_of(layout.database, runs)}
        folders = [store.artifacts / run for run in runs]
        if model := found.get("logged_model"):
            folders.append(store.folder_of_model(model))
        kept = [x / "artifacts" for x in folders]
        files = sorted(x for folder in kept for x in folder.rglob("*") if x.is_file())
    (receipt or Receipt(layout.receipt("track"))).write(found, files)
    return found


def _judged(sweep: Sweep) -> dict[str, Judged]:
    """Return what the choice says of each point."""
    found = {}
    for point, verdicts in read_choice(sweep).verdicts.items():
        compared = {name: x.compared for name, x in verdicts.items() if x.compared is not None}
        failed = tuple(x.text() for x in verdicts.values() if not x.passed)
        found[point] = Judged(compared, failed)
    return found


def _loader() -> Path:
    """Return the file by which MLflow loads a model; it is not imported, as it brings MACE."""
    found = find_spec(LOADER)
    assert found and found.origin
    return Path(found.origin)
