"""Send the epochs of a training to an MLflow server while it runs.

A thread of its own sends them, so that a slow server costs no training; one that is down is said
once and tried again now and then.  What never got there, `track` fills in from the files.
"""

import logging
import queue
import threading
import time
from dataclasses import asdict
from typing import Any

from lora.errors import UserError
from lora.plan.settings import TrainSettings
from lora.plan.sweep import Sweep
from lora.tracking.names import epoch_metrics, params_of, title_of
from lora.tracking.store import KEY, Store

log = logging.getLogger(__name__)

PAUSE = 60.0  # seconds after a fault before the server is tried again
LAST_TRY = 20.0  # seconds that the end of a training waits for what was not yet sent


Line = dict[str, Any]  # of metrics.jsonl
Epoch = tuple[str, str, TrainSettings, Line]  # point, key of its training, settings, line


class Live:
    """Context that takes the epochs of points and sends them on; it never raises and never waits.

    Args:
        sweep: The sweep, whose config names the server; nothing is sent where it turns that off.
            None is a training by hand.
    """

    def __init__(self, sweep: Sweep | None) -> None:
        self.sweep = sweep if sweep and sweep.config.tracking.live else None
        self.waiting: queue.SimpleQueue[Epoch | None] = queue.SimpleQueue()
        self.runs: dict[str, str] = {}
        self.warned = False
        self.thread = threading.Thread(target=self._send_all, daemon=True)

    def __enter__(self) -> "Live":
        if self.sweep:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.sweep:
            self.waiting.put(None)
            self.thread.join(LAST_TRY)

    def __call__(self, point: str, key: str, settings: TrainSettings, line: Line) -> None:
        """Take an epoch of a point.

        Args:
            point: Its name.
            key: That of its training.
            settings: Those of its training.
            line: The epoch, as metrics.jsonl holds it.
        """
        if self.sweep:
            self.waiting.put((point, key, settings, line))

    def _send_all(self) -> None:
        pending: list[Epoch] = []
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

    def _send(self, pending: list[Epoch]) -> bool:
        """Send what is waiting; return whether it arrived."""
        assert self.sweep
        where, title = self.sweep.config.tracking, title_of(self.sweep.config)
        try:
            results = self.sweep.layout.results
            with Store(results, where.uri, where.experiment).writing() as store:
                for point, key, settings, line in pending:
                    if point not in self.runs:
                        self.runs[point] = _run_of(store, point, title, key, settings)
                    store.log(self.runs[point], metrics=epoch_metrics(line))
        except Exception as error:  # whatever it is, it must not end a training
            if not self.warned:
                cause = error if isinstance(error, UserError) else f"tracking: {error!r}."
                log.warning("%s The training goes on.", cause)
                self.warned = True
            return False
        return True


def _run_of(store: Store, point: str, title: str, key: str, settings: TrainSettings) -> str:
    """Return the run of this training, begun before an interruption or made now; delete others."""
    begun = ""
    for run in store.runs().get(point, []):
        if run.data.tags.get(KEY) == key and run.info.status == "RUNNING" and not begun:
            begun = str(run.info.run_id)
        else:
            store.client.delete_run(run.info.run_id)
    if begun:
        return begun
    run_id = store.start(point, title, {KEY: key})
    store.log(run_id, params=params_of(asdict(settings)))
    return run_id
