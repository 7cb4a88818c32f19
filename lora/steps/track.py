"""Step `track`: fill MLflow from the files of a sweep.

    track/runs.json, and missed.json where the store could not be reached

The files are the truth and this step only copies them, so it can run as often as one likes: the
run of a point is left alone if its content digest is the same, filled up if it was begun while
the point trained, and else made anew and the old one deleted.
"""

import logging
import re
from pathlib import Path

from lora.errors import UserError
from lora.files.sealed import count_up, write_sealed
from lora.tracking.fill import fill_store
from lora.tracking.store import Store

log = logging.getLogger(__name__)


def track(
    results: str | Path,
    points: list[str],
    uri: str | None = None,
    experiment: str = "mace-lora-sweep",
    model: str | None = None,
    or_later: bool = False,
) -> dict:
    """Log every point of a sweep to MLflow, one flat run each, and register the chosen model.

    Args:
        results: the results folder of the sweep
        points: names of the points to log
        uri: http(s)://server; None is an SQLite file under `results`
        experiment: name of the MLflow experiment, made if need be
        model: name of the registered model; None is the experiment's with the sweep's id
        or_later: where the store does not take all, note it in missed.json and raise nothing

    Returns the contents of track/runs.json: {"uri", "experiment"} and, where the store was
    reached, {"experiment_id", "model", "page", "charts", "compare" (addresses in MLflow's UI),
    "runs": {point: run id}}.

    Raises UserError: the store cannot be reached.
    """
    results = Path(results)
    store = Store(results, uri, experiment)
    found = {"uri": store.uri, "experiment": experiment}
    try:
        with store.writing():
            # MLflow searches by a filter in which a quote of the name would end it
            name = re.sub(r"[^A-Za-z0-9_. -]+", "-", experiment)
            found |= fill_store(store, points, model or f"{name}-{store.sweep}")
    except UserError as error:
        if not or_later:
            raise
        log.warning("%s", error)
        print(error)  # the log of a job is not where one looks
        count_up(results / "track" / "missed.json", why=str(error))
    write_sealed(results / "track" / "runs.json", found)
    return found
