"""Epochs of a training sent to an MLflow server while it runs.

A thread of its own sends them, so that a slow server costs no training; one that is down is said
once and tried again now and then.  What never got there, `track` fills in from the files.
"""

import logging
import queue
import threading
import time
from dataclasses import asdict
from pathlib import Path

from lora.errors import UserError
from lora.files.sealed import read_json
from lora.plan.settings import TrainSettings
from lora.tracking.names import epoch_metrics, params_of
from lora.tracking.store import KEY, Store

log = logging.getLogger(__name__)

PAUSE = 60.0  # seconds after a fault before the server is tried again
LAST_TRY = 20.0  # seconds that the end of a training waits for what was not yet sent


class Live:
    """Context that takes the epochs of points and sends them on; it never raises and never waits.

    Args:
        file: {"uri", "experiment"} as JSON, written where the sweep was started; where there is
            none, nothing is sent
        results: the results folder of the sweep
    """

    def __init__(self, file: str | Path | None, results: str | Path) -> None:
        self.where = read_json(file) if file and Path(file).is_file() else None  # null: turned off
        self.results = Path(results)
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.runs: dict[str, str] = {}
        self.warned = False
        self.thread = threading.Thread(target=self._send_all, daemon=True)

    def __enter__(self) -> "Live":
        if self.where:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.where:
            self.waiting.put(None)
            self.thread.join(LAST_TRY)

    def __call__(self, point: str, key: str, settings: TrainSettings, line: dict) -> None:
        """Take an epoch of a point: its line in metrics.jsonl."""
        if self.where:
            self.waiting.put((point, key, settings, line))

    def _send_all(self) -> None:
        pending: list[tuple] = []
        ended, again = False, 0.0
        while not ended:
            wait = max(0.0, again - time.monotonic()) if pending else None
            try:
                items = [self.waiting.get(timeout=wait)]
            except queue.Empty:
                items = []
            while not self.waiting.empty():
                items.append(self.waiting.get())
            ended = None in items
            pending += [item for item in items if item is not None]
            if pending and (ended or time.monotonic() >= again):
                if self._send(pending):
                    pending = []
                else:
                    again = time.monotonic() + PAUSE

    def _send(self, pending: list[tuple]) -> bool:
        """Send what is waiting.  Returns whether it arrived."""
        assert self.where
        try:
            with Store(self.results, **self.where).writing() as store:
                for point, key, settings, line in pending:
                    if point not in self.runs:
                        self.runs[point] = _run_of(store, point, key, settings)
                    store.log(self.runs[point], metrics=epoch_metrics(line))
        except Exception as error:  # whatever it is, it must not end a training
            if not self.warned:
                said = error if isinstance(error, UserError) else f"tracking: {error!r}"
                log.warning("%s; the training goes on", said)
                self.warned = True
            return False
        return True


def _run_of(store: Store, point: str, key: str, settings: TrainSettings) -> str:
    """The run of this training, begun before an interruption or made now; older ones go."""
    begun = ""
    for run in store.runs().get(point, []):
        if run.data.tags.get(KEY) == key and run.info.status == "RUNNING" and not begun:
            begun = str(run.info.run_id)
        else:
            store.client.delete_run(run.info.run_id)
    if begun:
        return begun
    run_id = store.start(point, {KEY: key})
    store.log(run_id, params=params_of(asdict(settings)))
    return run_id
