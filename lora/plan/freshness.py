"""Decide which jobs of a sweep run again, and say why.

A receipt holds the stamp of its job: settings, digest of the code, digests of the files that it
read, versions.  A job is fresh where the stamp that it would get now is the same, so nothing hangs
on dates, on snakemake's memory, or on where the results folder lies: it can be moved or copied.
Snakemake is told by marks: a small file, newer than the receipt, beside each that is not fresh.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lora.files.sealed import digest, read_seal
from lora.files.stored import shards
from lora.plan.code import code_of
from lora.plan.config_data import LABELS, Data
from lora.plan.job import FOUNDATION_ROLE, Job
from lora.plan.layout import Layout
from lora.plan.settings import TrainSettings

OLD = 1.0  # seconds since 1970: older than any receipt
PACKAGES = ("torch", "mace-torch", "e3nn")


class Why(StrEnum):
    """Why a job runs, the weightiest first; "" where it does not."""

    FRESH = ""
    NEW = "new"
    FORCED = "asked for"
    FAILED = "failed before"
    SETTINGS = "changed settings"
    DATA = "changed data"
    CODE = "changed code"


@dataclass(frozen=True)
class Verdict:
    """Whether a job runs.

    why:   the reason; of a job that follows another, that of the other
    what:  the reason in words: which setting, file or version
    after: the job that it follows, "" where the reason is its own
    kept:  True where code has changed and the user keeps what was made
    """

    why: Why
    what: str = ""
    after: str = ""
    kept: bool = False

    @property
    def runs(self) -> bool:
        """Return True for a job that runs."""
        return self.why is not Why.FRESH


FRESH = Verdict(Why.FRESH)


class Files:
    """Digests of files, remembered by size and time of change, so that large ones are read once."""

    def __init__(self, known: dict[str, list[Any]] | None = None) -> None:
        self.known = dict(known or {})
        self.seals: dict[Path, dict[str, Any]] = {}
        self.coming: dict[Path, Path | None] = {}  # made by this start: {file: what it copies}

    def digest(self, path: Path) -> str:
        """Return the digest of a file's content, "" where it is not there, or not made yet."""
        source = self.coming.get(path, path)
        if source is None or not (source.exists() or shards(source)):
            return ""
        path = source
        files = shards(path)
        state = [x for one in files or [path] for x in _state(one, bool(files))]
        entry = self.known.get(str(path))
        if entry is None or entry[:-1] != state:
            entry = [*state, digest(*(files or [path]))]
            self.known[str(path)] = entry
        return str(entry[-1])

    def seal(self, receipt: Path) -> dict[str, Any]:
        """Return the seal of a receipt; each is read once."""
        if receipt not in self.seals:
            self.seals[receipt] = read_seal(receipt)
        return self.seals[receipt]


def _state(path: Path, named: bool) -> list[Any]:
    """Return size and time of change of a file, after its name where that counts."""
    found = path.stat()
    return [*([path.name] if named else []), found.st_size, found.st_mtime_ns]


def stamp(job: Job, needed: dict[str, Job], files: Files) -> dict[str, Any]:
    """Return what a job depends on, as its receipt will hold it.

    Args:
        job: the job
        files: digests of files, remembered
        needed: the jobs whose receipts it reads, by key; all must be there
    """
    inputs = {role: files.digest(path) for role, path in job.files.items()}
    inputs |= {key: str(files.seal(one.receipt)["digest"]) for key, one in needed.items()}
    return {
        "settings": json.loads(json.dumps(job.settings)),
        "inputs": inputs,
        "code": code_of(*job.code),
        "versions": {name: _version(name) for name in PACKAGES} if job.computes else {},
    }


def judge(
    jobs: dict[str, Job], files: Files, forced: Iterable[str] = (), keep: bool = False
) -> dict[str, Verdict]:
    """Return a verdict on every job, each after those that it needs.

    Args:
        jobs: every job by its key, each after those that it needs
        files: digests of files, remembered
        forced: steps, pages or receipts that the user asked for
        keep: keep what changed code has made stale, up to and with trainings

    Raises UserError: a receipt is damaged.
    """
    verdicts: dict[str, Verdict] = {}
    forced = set(forced)
    for key, job in jobs.items():
        before = [x for x in job.needs if verdicts[x].runs]
        if not all(path.is_file() for path in (job.receipt, *job.copies)):
            verdicts[key] = Verdict(Why.NEW)
        elif forced & {job.step, job.name, str(job.receipt)}:
            verdicts[key] = Verdict(Why.FORCED)
        elif before:
            first = min(before, key=lambda x: list(Why).index(verdicts[x].why))
            verdicts[key] = Verdict(verdicts[first].why, verdicts[first].what, first)
        else:
            verdicts[key] = _compare(job, jobs, files, keep)
        if verdicts[key].runs:
            files.coming |= job.copies
    return verdicts


KEPT = ("split", "replay", "e0s", "keep", "train", "probe", "rung", "truncate")


def _compare(job: Job, jobs: dict[str, Job], files: Files, keep: bool) -> Verdict:
    """Compare the stamp of a receipt with the one that it would get now."""
    made = files.seal(job.receipt).get("stamp")
    if not made:
        return Verdict(Why.NEW, "made by hand or by an older version")
    now = stamp(job, {x: jobs[x] for x in job.needs}, files)
    made, now = _name_or_content(made, now)
    changed = list(_differences(made["settings"], now["settings"], _defaults_of(job)))
    if changed:
        failed = all(x.startswith(("failed:", "missed:")) for x in changed)
        return Verdict(Why.FAILED if failed else Why.SETTINGS, "; ".join(changed[:3]))
    # what is gone, and asked for it would be refused, says nothing against what was made of it
    gone = {x for x, path in job.files.items() if not (files.digest(path) or path in files.coming)}
    inputs = [x for x in now["inputs"] if made["inputs"].get(x) != now["inputs"][x]]
    inputs = [x for x in inputs if x not in gone]
    inputs += [x for x in made["inputs"] if x not in now["inputs"]]
    if inputs:
        return Verdict(Why.DATA, ", ".join(inputs[:3]))
    moved = [
        f"{name} {made['versions'].get(name)} -> {number}"
        for name, number in now["versions"].items()
        if made["versions"].get(name) != number
    ]
    if moved or made["code"] != now["code"]:
        what = ", ".join(moved)
        if keep and job.step in KEPT:
            return Verdict(Why.FRESH, what, kept=True)
        return Verdict(Why.CODE, what)
    return FRESH


def _defaults_of(job: Job) -> dict[str, Any]:
    """Return the defaults of names of labels and of trainings, for those that a version brought."""
    names = {name: Data.model_fields[name].default for name in LABELS}
    return names | (TrainSettings().to_dict() if job.step == "train" else {})


def _name_or_content(*stamps: dict[str, Any]) -> list[dict[str, Any]]:
    """Return two stamps without the name of the foundation model, or without its content.

    What counts is the content.  Before a published model is fetched again, and in stamps of
    versions that did not keep it, only its name is known.
    """
    known = all(stamp["inputs"].get(FOUNDATION_ROLE) for stamp in stamps)
    named = any(FOUNDATION_ROLE in stamp["settings"] for stamp in stamps)
    if not (known or named):
        return list(stamps)
    part = "settings" if known else "inputs"
    return [
        stamp | {part: {k: v for k, v in stamp[part].items() if k != FOUNDATION_ROLE}}
        for stamp in stamps
    ]


def _differences(old: Any, new: Any, defaults: dict[str, Any], name: str = "") -> Iterable[str]:
    """Yield the settings that differ; a new one at its default does not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(x for x in old if x not in new)]:
            inner = f"{name}.{key}".lstrip(".")
            if key not in new:
                yield f"{inner}: {_short(old[key])} -> none"
            elif key in old:
                yield from _differences(old[key], new[key], defaults, inner)
            elif key not in defaults or defaults[key] != new[key]:
                yield f"{inner}: none -> {_short(new[key])}"
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield f"{name}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@cache
def _version(package: str) -> str | None:
    try:
        return version(package).split("+")[0]  # builds for CPU and GPU are one version
    except PackageNotFoundError:
        return None


def mark(jobs: dict[str, Job], verdicts: dict[str, Verdict], layout: Layout, dry: bool) -> None:
    """Set the marks of all jobs: newer than the receipt where a job has to run again, else old.

    A mark that says run is newer than the receipt whatever the clock says, and its content is new
    each time, because snakemake passes over inputs that it has seen before.

    Args:
        jobs: every job by its key
        verdicts: which of them run
        layout: the paths of the sweep
        dry: nothing will run: jobs without a receipt get no mark, so that no folder is made
    """
    for key, job in jobs.items():
        path, made = layout.mark(job.step, job.name), job.receipt.is_file()
        if made and verdicts[key].runs:
            late = max(time.time(), job.receipt.stat().st_mtime + 1)
            _write(path, f"{verdicts[key].why}: {verdicts[key].what}\n{time.time_ns()}\n", late)
        elif path.is_file():
            os.utime(path, (OLD, OLD))
        elif not dry:
            _write(path, "", OLD)


def _write(path: Path, text: str, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))
