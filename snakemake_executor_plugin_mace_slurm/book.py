"""Write down what was submitted and how it stands: `mace-lora status` asks no cluster."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from snakemake_executor_plugin_mace_slurm.ask import Entry
from snakemake_executor_plugin_mace_slurm.tag import Tag
from snakemake_executor_plugin_mace_slurm.words import stuck

SECONDS = 5.0  # between two writings, while jobs are submitted


class Book:
    """The jobs that were submitted, and that the queue is looked at."""

    def __init__(self, layout: Any, warn: Callable[[str], None]) -> None:
        """Begin with what earlier starts have left.

        Args:
            layout: The paths of the results folder; None in a workflow that is not ours, of which
                nothing is written.
            warn: Says what is wrong.
        """
        from lora.errors import UserError  # of the clone in which snakemake runs
        from lora.plan.queue import Queue

        self.layout, self.warn, self.written = layout, warn, 0.0
        self.lock, self.said = threading.Lock(), set[str]()
        self.queue = Queue(watched=True)
        try:
            self.queue = replace(Queue.read(layout).ended(), watched=True) if layout else self.queue
        except UserError as error:  # it is told to people alone, and written anew
            warn(str(error))

    def submitted(self, number: str, tag: Tag, log: str) -> None:
        """Add a job."""
        from lora.plan.queue import Submission

        with self.lock:
            self.queue = self.queue.given(Submission(number, tuple(tag.jobs), "PENDING", log=log))
            if time.monotonic() - self.written > SECONDS:
                self._write()

    def over(self, number: str) -> None:
        """Note that a job is not in the queue any more."""
        with self.lock:
            self.queue = self.queue.ended({*self.queue.jobs} - {number})

    def look(self, there: Mapping[str, Entry]) -> list[str]:
        """Note how jobs stand; return what is new of those that wait for ever.

        Args:
            there: What is in the queue, by number.
        """
        new = []
        with self.lock:
            jobs = dict(self.queue.jobs)
            for number, entry in there.items():
                if number not in jobs or not jobs[number].goes_on:
                    continue
                what = stuck(entry.reason) if entry.state == "PENDING" else ""
                note = f"job {number} waits in the queue ({entry.reason}): {what}" if what else ""
                jobs[number] = replace(
                    jobs[number], state=entry.state, reason=entry.reason, note=note
                )
                if note and note not in self.said:
                    self.said.add(note)
                    new.append(f"{' '.join(jobs[number].jobs)}: {note}")
            self.queue = replace(self.queue, jobs=jobs)
            self._write()
        return new

    def close(self) -> None:
        """Note that nobody looks at the queue any more."""
        with self.lock:
            self.queue = replace(self.queue.ended(), watched=False)
            self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.layout:
            try:
                self.queue.write(self.layout)
            except OSError as error:  # a full disk: jobs go on, `mace-lora status` knows less
                self.warn(f"{error.filename}: {error.strerror}")
