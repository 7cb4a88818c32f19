"""Step `track`: fill MLflow from the files of a sweep.

track/runs.json, and missed.json where the store could not be reached

The files are the truth and this step only copies them, so it can run as often as one likes: the
run of a point is left alone if its content digest is the same, filled up if it was begun while
the point trained, and else made anew and the old one deleted.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora.errors import UserError
from lora.files.sealed import Receipt, count_up
from lora.plan.identity import place_of
from lora.plan.sweep import Sweep
from lora.tracking.content import content_of
from lora.tracking.fill import fill_store
from lora.tracking.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackSettings:
    """Where runs go.

    uri:        http(s)://server; None is an SQLite file in the results folder
    experiment: the name of the MLflow experiment, made if need be
    model:      the name of the registered model; None is the experiment's with the sweep's id
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
        "page", "charts", "compare" (addresses in MLflow's UI), "runs": {point: run id}}.

    Raises:
        UserError: The store cannot be reached.
    """
    layout = sweep.layout
    store = Store(layout.results, settings.uri, settings.experiment, settings.named)
    found: dict[str, Any] = {"uri": settings.uri, "experiment": settings.experiment}
    # MLflow searches by a filter in which a quote of the name would end it
    name = re.sub(r"[^A-Za-z0-9_. -]+", "-", settings.experiment)
    try:
        with store.writing():
            found |= fill_store(store, sweep, settings.model or f"{name}-{store.sweep}")
    except UserError as error:
        if not settings.or_later:
            raise
        log.warning("%s", error)
        print(error)  # the log of a job is not where one looks
        count_up(layout.missed, why=str(error))
    files: list[Path] = []
    if store.is_local:
        runs = found.get("runs", {}).values()
        found |= {"place": place_of(layout), "logged": content_of(layout.database, runs)}
        kept = [store.artifacts / run / "artifacts" for run in runs]
        files = sorted(x for folder in kept for x in folder.rglob("*") if x.is_file())
    (receipt or Receipt(layout.receipt("track"))).write(found, files)
    return found
