"""Know a sweep wherever its folder lies, and keep two snakemakes out of one folder.

sweep.json
"""

import atexit
import hashlib
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora.errors import UserError, UserErrors, trouble
from lora.files.lock import Lock, Taken
from lora.files.sealed import read_json, write_sealed
from lora.files.seals import Known, check_all, read_known, write_known
from lora.plan.layout import Layout
from lora.plan.start import Start, refuse_old
from lora.plan.words import few

HELD: set[Path] = set()  # locks of this process
NAMED = 12  # damaged files that a message lists


def id_of(layout: Layout) -> str:
    """Return the id of a sweep, made at its first start; it moves with the folder.

    Args:
        layout: The paths of the sweep.
    """
    if not layout.identity.is_file():
        tracked = layout.receipt("track")
        # versions that knew a sweep by its path: its runs are found again
        old = tracked.is_file() and "place" not in read_json(tracked)
        name = place_of(layout) if old else uuid.uuid4().hex[:12]
        write_sealed(layout.identity, {"id": name, "place": place_of(layout)})
    return str(read_json(layout.identity)["id"])


def note_move(layout: Layout) -> None:
    """Say that a folder was moved or copied: a copy would take the runs of the other in MLflow.

    Args:
        layout: The paths of the sweep.
    """
    known = read_json(layout.identity) if layout.identity.is_file() else {}
    if known and known["place"] != place_of(layout):
        print(
            f"results: {layout.results} was moved or copied here, and stays the same sweep in "
            f"MLflow. A copy that goes its own way: delete {layout.identity}, run snakemake again",
            file=sys.stderr,
        )
        write_sealed(layout.identity, known | {"place": place_of(layout)})


def place_of(layout: Layout) -> str:
    """Return what stands for the place of a folder, without naming it.

    MLflow's own store holds where its files lie, so it is made anew in another place.
    """
    return hashlib.sha256(str(layout.results.resolve()).encode()).hexdigest()[:12]


def enter(layout: Layout, start: Start) -> Known:
    """Take a results folder, once it is clear that it can be gone on with.

    Returns what was found whole in it, to be remembered where jobs will run.

    Args:
        layout: The paths of the sweep.
        start: How snakemake was started.

    Raises:
        UserError: It is another version's or another snakemake's, or files in it were damaged.
    """
    refuse_old(layout)
    try:
        if start.runs:
            hold(layout)
            note_move(layout)
        whole = {} if start.locked else refuse_damaged(layout)
    except OSError as error:
        raise UserError(f"results: {trouble(error)}; run it again when that is mended") from None
    return whole if start.runs else {}


def remember(layout: Layout, whole: Known) -> None:
    """Write down what was found whole; without it the next start reads all again.

    Args:
        layout: The paths of the sweep.
        whole: What `enter` has found.
    """
    with suppress(OSError):
        write_known(layout.whole, whole)


def left_out(earlier: Mapping[str, Any], points: Iterable[str]) -> list[str]:
    """Say which points of the start before are no longer in the sweep.

    Args:
        earlier: The plan of the start before; {} where there was none.
        points: The points of this start.
    """
    before = {x for _, members in earlier.get("members", {}).values() for x in members}
    gone = sorted(before - {*points})
    if not gone:
        return []
    return [
        f"results: {len(gone)} points of the last start are not in this config: {few(gone)}. Their "
        "files stay; report and MLflow leave them out"
    ]


def hold(layout: Layout) -> None:
    """Keep every other snakemake out of a results folder until this process ends.

    Snakemake itself locks only the folder in which it was started.

    Args:
        layout: The paths of the sweep.

    Raises:
        UserError: Another one works there, on this machine or on one that shares the folder.
    """
    if layout.lock in HELD:
        return
    lock = Lock(layout.lock, wait=False)
    try:
        lock.__enter__()
    except Taken as who:
        raise UserError(
            f"results: {layout.results}: snakemake works there already, {who}; wait for it, or "
            f"name another folder. If there is none, delete {layout.lock}"
        ) from None
    HELD.add(layout.lock)
    atexit.register(lock.__exit__)


def refuse_damaged(layout: Layout) -> Known:
    """Check what is new or changed in a results folder against its seals.

    Args:
        layout: The paths of the sweep.

    Returns:
        What was found whole.

    Raises:
        UserErrors: Files that were damaged or edited, a line each.
    """
    if not layout.plan.is_file():
        return {}
    known = read_known(layout.whole)
    damaged = check_all(layout.results, known=known).damaged
    begun = unfinished(layout, damaged)
    lines = [line for path, line in damaged.items() if path not in begun]
    if lines:
        more = [f"and {len(lines) - NAMED} more: mace-lora verify {layout.results}"]
        raise UserErrors([*lines[:NAMED], *(more if len(lines) > NAMED else [])])
    return known


def unfinished(layout: Layout, files: Iterable[Path]) -> list[Path]:
    """Return the files that a job writes anew, or wrote when it was ended.

    Snakemake deletes the receipt of a job when the job begins, so they have none; it runs again.

    Args:
        layout: The paths of the sweep.
        files: Some that do not match their seals.
    """
    of_no_job = (layout.identity, layout.plan, layout.tries)  # these are never half written
    begun = [x for x in files if x not in of_no_job]
    return [x for x in begun if layout.receipt_of(x) is None or x == layout.queue]


def is_open(layout: Layout, path: Path) -> bool:
    """Return True for a file that needs no seal, as it changes while a sweep lives.

    Args:
        layout: The paths of the sweep.
        path: The file.
    """
    folders = (layout.results / "train" / "packs", layout.results / "merge" / "lock")
    inside = any(x == path or x in path.parents for x in folders)
    return inside or path == layout.queue or path.name.startswith(layout.database.name)
