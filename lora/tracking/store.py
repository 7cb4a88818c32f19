"""Talk to an MLflow store: experiments, runs found again by their tags, metrics in batches.

The only module that talks to it.  What a sweep writes there comes from its files (`track`), or,
while it runs, from its trainings (`live`); both name metrics alike and stamp them with the time
that stands in the file, so that what is written twice is there once.
"""

import itertools
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lora.errors import UserError
from lora.files.lock import Lock
from lora.plan.identity import id_of
from lora.plan.layout import Layout
from lora.plan.servers import NAMED, host_of, is_named, wrong_with
from lora.tracking.names import run_name

log = logging.getLogger(__name__)

# a server that is down shall cost seconds, not minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

ARTIFACTS = "artifacts"  # the folder of files beside the SQLite file
SWEEP, POINT = "sweep_id", "point"  # tags that a run is found by
KEY, DIGEST = "training_key", "content_digest"  # tags that say what is in it
# what MLflow sends to whatever server it is told to talk to
CREDENTIALS = tuple(
    f"MLFLOW_TRACKING_{x}"
    for x in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4", "CLIENT_CERT_PATH")
)
CREDENTIALS_FILE = Path("~/.mlflow/credentials")
NOTE = "mlflow.note.content"  # tag that MLflow shows as the description
TABLES = "mlflow.loggedArtifacts"  # tag that names the tables of a run
VIEW = "mlflow.sharedViewState."  # tag of an experiment that MLflow's UI takes a view from


class Store:
    """One experiment in an MLflow store, and in it the runs of one sweep.

    Args:
        results: The results folder of the sweep.
        uri: http(s)://server or sqlite:///file; None is an SQLite file in the results folder.
        experiment: Its name; it is made if need be.
        named: Whether the user named the server outside of the config, so that it may get the
            user's credentials.

    Raises:
        UserError: The uri has a password in it.
    """

    def __init__(
        self, results: str | Path, uri: str | None, experiment: str, named: bool = False
    ) -> None:
        self.results, self.experiment, self.named = Path(results), experiment, named
        self.uri = check_uri(uri) or store_uri(self.results)
        self.sweep = id_of(Layout(self.results))
        self.experiment_id = ""

    @property
    def is_local(self) -> bool:
        """Return True for the SQLite file in the results folder."""
        return self.uri == store_uri(self.results)

    @property
    def shown(self) -> str:
        """Return the address for people; without the place of the folder, which can be moved."""
        name = Layout(Path(self.results.resolve().name)).database
        return f"sqlite:///{name}" if self.is_local else self.uri

    @property
    def artifacts(self) -> Path:
        """Return the folder of files of that store."""
        return Layout(self.results).database.resolve().with_name(ARTIFACTS)

    @contextmanager
    def writing(self) -> Iterator["Store"]:
        """Connect; in an SQLite file alone, as its writers would hurt each other.

        Raises:
            UserError: The store could not be reached, or refused something, or is a stranger's and
                would get the user's credentials.
        """
        if not self.named:
            _refuse_credentials(self.uri)
        import mlflow
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry
        alone: AbstractContextManager[Any] = nullcontext()
        file = Path(self.uri.removeprefix("sqlite:///"))
        if self.uri.startswith("sqlite:"):
            file.parent.mkdir(parents=True, exist_ok=True)
            alone = Lock(file.with_name(f"{file.name}.lock"))
        try:
            with alone:
                self._leave_another_place()
                if self.uri.startswith("sqlite:") and not file.is_file():
                    _make_database(file)
                self.client = mlflow.MlflowClient(self.uri, self.uri)
                self.experiment_id = self._find_or_make_experiment()
                yield self
        except (MlflowException, RequestException, SQLAlchemyError) as error:
            cause = str(error).splitlines()[0]
            raise UserError(
                f"tracking: MLflow at {self.uri} could not be reached ({cause}). Results are safe "
                "on disk; run snakemake again once it is up, and the missing runs are uploaded."
            ) from None

    def runs(self) -> dict[str, list[Any]]:
        """Return the runs of this sweep by point, newest first."""
        found: dict[str, list[Any]] = {}
        where, page = f"tags.{SWEEP} = '{self.sweep}'", None
        while page is None or page.token:
            own: dict[str, Any] = {"page_token": page.token} if page else {}
            page = self.client.search_runs([self.experiment_id], where, max_results=1000, **own)
            for run in page:
                found.setdefault(run.data.tags[POINT], []).append(run)
        return found

    def start(
        self, point: str, title: str, tags: dict[str, str], started: int | None = None
    ) -> str:
        """Make a run for a point, begun at `started` (ms), in a sweep of a title; return its id."""
        own = {SWEEP: self.sweep, POINT: point}
        name = run_name(point, title)
        run = self.client.create_run(
            self.experiment_id, run_name=name, start_time=started, tags=own | tags
        )
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        params: dict[str, Any] | None = None,
        metrics: list[tuple[str, float, int, int]] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Write to a run.

        Args:
            run_id: Its id.
            params: {name: value}.
            metrics: Name, value, milliseconds and epoch of each.
            tags: {name: value}.
        """
        from mlflow.entities import Metric, Param, RunTag

        named = [Param(k, str(v)) for k, v in (params or {}).items()]
        tagged = [RunTag(k, v) for k, v in (tags or {}).items()]
        self.client.log_batch(run_id, params=named, tags=tagged)
        values = [Metric(*metric) for metric in metrics or []]
        for begin in range(0, len(values), 1000):
            self.client.log_batch(run_id, metrics=values[begin : begin + 1000])

    def log_datasets(self, run_id: str, datasets: list[dict[str, str]]) -> None:
        """Name the sets that a run was made from, each with context, name, digest and source.

        Two that name the same set for the first time at once hurt each other in MLflow's server,
        which refuses one of them; that one tries again.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        inputs = [
            DatasetInput(
                Dataset(x["name"], x["digest"], "local", json.dumps({"uri": x["source"]})),
                [InputTag("mlflow.data.context", x["context"])],
            )
            for x in datasets
        ]
        for pause in (0.1, 0.5, 2.0, 0.0):
            try:
                return self.client.log_inputs(run_id, inputs)
            except MlflowException:
                if not pause:
                    raise
                time.sleep(pause)
        return None

    def log_table(self, run_id: str, table: str, name: str) -> None:
        """Keep a table, as MLflow's own `log_table`, which adds the rows to those there are.

        Args:
            run_id: The run.
            table: JSON, as pandas writes it with orient="split".
            name: The file.
        """
        self.client.log_text(run_id, table, name)
        self.client.set_tag(run_id, TABLES, json.dumps([{"path": name, "type": "table"}]))

    def folder_of_model(self, model_id: str) -> Path:
        """Return the folder of a logged model's files in that store."""
        return self.artifacts / "models" / model_id

    def finish(self, run_id: str, tags: dict[str, str], ended: int) -> None:
        """Mark a run as complete, with what it is made of."""
        self.log(run_id, tags=tags)
        self.client.set_terminated(run_id, "FINISHED", ended)

    def versions_of(self, name: str) -> list[Any]:
        """Return the versions of a registered model, which is made if need be."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException:  # there already; a true fault shows in the next call
            self.client.get_registered_model(name)
        return list(self.client.search_model_versions(f"name = '{name}'"))

    def show(self, view: dict[str, Any], which: str = "") -> str:
        """Keep how the UI shall show this sweep: columns, order, charts; return the link to it.

        MLflow does not document this; where it no longer works, the plain page opens.
        """
        name = self.sweep + which
        self.client.set_experiment_tag(self.experiment_id, VIEW + name, json.dumps(view))
        return page_of(self.experiment_id, name)

    def _leave_another_place(self) -> None:
        """Put the store of a moved folder aside, whose runs name files in the old place."""
        if self.is_local and is_elsewhere(self.results):
            database = Layout(self.results).database
            names = (f"{database.name}.before{x or ''}" for x in itertools.count())
            kept = next(x for x in map(database.with_name, names) if not x.exists())
            log.warning("%s was moved: MLflow's store is made anew; %s", self.results, kept)
            database.replace(kept)  # with what people wrote in it
            shutil.rmtree(self.artifacts, ignore_errors=True)

    def _find_or_make_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            place = self.artifacts.as_uri() if self.is_local else None
            try:
                return str(self.client.create_experiment(self.experiment, artifact_location=place))
            except MlflowException:  # another process was faster, or a true fault: then again
                found = self.client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def _make_database(file: Path) -> None:
    """Make an SQLite store, whole or not at all: MLflow cannot go on with half of its tables."""
    import mlflow

    beside = file.with_name(f".{file.name}.part")
    beside.unlink(missing_ok=True)
    mlflow.MlflowClient(f"sqlite:///{beside}").search_experiments()
    beside.replace(file)


def page_of(experiment_id: str, view: str) -> str:
    """Return the page of a view of a sweep in MLflow's UI, from the server's address on."""
    view = f"?workflowType=machine_learning&viewStateShareKey={view}"
    return f"/#/experiments/{experiment_id}/runs{view}"


def check_uri(uri: str | None) -> str | None:
    """Return a uri, once it is clear that no password stands in it.

    Raises:
        UserError: One may; it would end up in logs, commands and reports.
    """
    if why := wrong_with(uri or ""):
        raise UserError(f"tracking: uri: it {why}")
    return uri


def is_elsewhere(results: Path) -> bool:
    """Return True for a results folder that was moved since its store in it was made.

    MLflow holds where the files of an experiment lie; snakemake deletes our own receipt before it
    runs the job again.
    """
    database = Layout(results).database
    if not database.is_file():
        return False
    own = database.resolve().with_name(ARTIFACTS)
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            rows = store.execute("select artifact_location from experiments").fetchall()
    except sqlite3.Error:  # damaged: MLflow says so
        return False
    places = [Path(unquote(urlsplit(x).path)) for (x,) in rows if str(x).startswith("file:")]
    ours = [x for x in places if x.parts[-2:] == own.parts[-2:]]
    return any(x.resolve() != own for x in ours)


def _refuse_credentials(uri: str) -> None:
    """Raise UserError where MLflow would send credentials to a server that only a config names."""
    held = [name for name in CREDENTIALS if os.environ.get(name)]
    if CREDENTIALS_FILE.expanduser().is_file():
        held.append(str(CREDENTIALS_FILE))
    if held and host_of(uri) and not is_named(uri):
        raise UserError(
            f"tracking: the credentials of {held[0]} are not sent to {host_of(uri)}, which the "
            f"config alone names; set {NAMED}={uri} in the environment if that server is to have "
            "them, or unset them; then run snakemake again, and the missing runs are uploaded"
        )


def store_uri(results: Path) -> str:
    """Return the store that needs no server: an SQLite file in the results folder."""
    return f"sqlite:///{Layout(results).database.resolve()}"
