"""Snakemake's words for a terminal: a line a step, with what came of it and the time left.

What is not a step is said as snakemake says it: warnings, the lines of an executor, dry runs.  The
file in .snakemake/log has all of it in snakemake's own words.  An error names the log of its job
and shows the end of it.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_mace_lora.pace import Pace
from snakemake_logger_plugin_mace_lora.words import Ended, end_of, jobs_line, step_line

__all__ = ["LogHandler"]
# what snakemake says of each start and each step; a version with other words says a line more
USUAL = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Conda environments: ignored",
    "Group jobs: inactive",
    "Select jobs to execute",
    "Singularity containers: ignored",
    "Using shell:",
)
# what becomes part of the line of a step, or is in the log file alone
SILENT = {
    LogEvent.GROUP_INFO,
    LogEvent.JOB_FINISHED,
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.RESOURCES_INFO,
    LogEvent.WORKFLOW_STARTED,
}


class LogHandler(LogHandlerBase):
    """The handler of `--logger mace-lora`."""

    def __post_init__(self) -> None:
        """Take snakemake's own filter, formatter and colours; know no sweep yet."""
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        given = self.common_settings
        asked = (given.quiet, given.debug_dag, given.verbose, given.dryrun, given.printshellcmds)
        whole = given.show_failed_logs and given.dryrun
        self.own = DefaultFormatter(given.quiet, whole)
        self.filter_of_snakemake = DefaultFilter(*asked)
        stream = sys.stdout if given.stdout else sys.stderr
        self.out = ColorizingTextHandler(given.nocolor, stream, self.own)
        self.jobs: dict[int, Any] = {}  # what snakemake said of each, when it began
        self.ended: list[int] = []  # which are not told of yet
        self.known: dict[str, Any] = {}  # sweep and job, by receipt
        self.pace = Pace()

    def follow(self, sweep: Any) -> None:
        """Know the jobs of a sweep; the rules call it, of every module that is one.

        Args:
            sweep: Its plan.
        """
        self.known |= {str(job.receipt): (sweep, job) for job in sweep.jobs.values()}

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record, or keep what it says for the line of a step.

        Args:
            record: Of snakemake, or of a plugin.
        """
        try:
            self._say(record)
        except Exception:  # said with its traceback; later records go on
            self.handleError(record)

    def _say(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if self.common_settings.dryrun:
            self._write(record)
            return
        self._note(record, event)
        if event in SILENT or not self.filter_of_snakemake.filter(record):
            return
        if event is None and record.levelno == logging.INFO:
            if not str(record.msg or "").startswith(USUAL):
                self._write(record)
            return
        for line in self._lines(record, event):
            self._write(record, line)

    def _note(self, record: Any, event: Any) -> None:
        """Keep what lines of steps are made of."""
        if event == LogEvent.JOB_INFO:
            self.jobs[record.jobid] = record
            self.pace.begins(record.jobid, record.rule_name, record.created)
        elif event == LogEvent.JOB_FINISHED:
            self.ended.append(record.job_id)
            self.pace.ends(record.job_id, record.created)
        elif event == LogEvent.RUN_INFO:
            self.pace.expects(record.stats)

    def _lines(self, record: Any, event: Any) -> list[str]:
        """Return what a record says; None stands for snakemake's own words."""
        if event == LogEvent.RUN_INFO:
            return [jobs_line(record.stats)]
        if event == LogEvent.PROGRESS:
            told, self.ended = self.ended, []
            done = record.done - len(told) + 1
            total = max(record.done, self.pace.total or record.total)
            return [self._step(x, done + i, total) for i, x in enumerate(told)]
        if event == LogEvent.SHELLCMD:
            return [f"    {getattr(record, 'shellcmd', None) or record.getMessage()}"]
        if event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR):
            return [self._error(record, event)]
        return [self.own.format(record)]

    def _step(self, jobid: int, done: int, total: int) -> str:
        """Return the line of a step that has ended."""
        record = self.jobs.get(jobid)
        if record is None:
            return step_line(Ended("", done, total))
        sweep, job = self.known.get(next(iter(record.output), ""), (None, None))
        seconds = self.pace.seconds(jobid)
        left = self.pace.left() if done < total else None
        one = Ended(record.rule_name, done, total, seconds, left, tuple(record.wildcards.values()))
        return step_line(one, sweep, job)

    def _error(self, record: Any, event: Any) -> str:
        """Return snakemake's words for an error, without inputs, and the end of each log."""
        if event == LogEvent.GROUP_ERROR:
            logs = list(record.aux_logs)
        else:
            record.input, logs = [], list(record.log)
        text: str = self.own.format(record)
        if self.common_settings.show_failed_logs:
            text = "\n".join([text, *(end_of(Path(log)) for log in logs)])
        return text

    def _write(self, record: Any, text: str | None = None) -> None:
        """Write a record as snakemake says it, or with another text, in its colour."""
        if text is None:
            if self.filter_of_snakemake.filter(record):
                self.out.emit(record)
            return
        own = logging.makeLogRecord(record.__dict__ | {"event": None, "msg": text, "args": None})
        self.out.emit(own)

    @property
    def writes_to_stream(self) -> bool:
        """Return True: it takes the place of snakemake's own lines."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Return False: snakemake's own file has all."""
        return False

    @property
    def has_filter(self) -> bool:
        """Return True: what is not said is part of what is."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Return True."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Return False."""
        return False
