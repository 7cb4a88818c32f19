"""Step `train`: one point of the grid, or a pack of them.

train/{point}/adapter/, metrics.jsonl, train.json     (and a checkpoint until it is done)
"""

import logging
from pathlib import Path
from typing import Any

from lora.errors import MEMORY, Paused, UserError, out_of_memory
from lora.files.lock import Lock
from lora.mace.device import set_threads
from lora.plan.commands import Base, Limits, Run
from lora.plan.settings import TrainSettings
from lora.training.checkpoint import FILE
from lora.training.distributed import any_of, is_first, leave, rank_and_size
from lora.training.inputs import Inputs, TrainFiles, Watch
from lora.training.interrupt import Interrupt
from lora.training.results import note_failures
from lora.training.session import Session
from lora.training.spare import Spare

__all__ = ["Base", "Limits", "Run", "TrainFiles", "train", "train_pack"]
log = logging.getLogger(__name__)


def train(
    settings: TrainSettings,
    base: Base,
    files: TrainFiles,
    out: str | Path,
    run: Run = Run(),
    limits: Limits = Limits(),
) -> dict[str, Any]:
    """Fine-tune a foundation model by one method and write the adapter, or the weights.

    The same call after an interruption goes on from the last finished epoch, to the same result.

    Args:
        settings: Method, rank, alpha, learning rate and so on.
        base: The foundation model.
        files: The data.
        out: The folder of the point.
        run: As for `train_pack`.
        limits: As for `train_pack`.

    Returns:
        The contents of train.json; {} in all but the first of several processes.

    Raises:
        UserError: Settings or data.
        Paused: It stopped early; run it again.
    """
    results = train_pack({Path(out): settings}, base, files, Path(out), run, limits)
    return results[0] if is_first() else {}


def train_pack(
    points: dict[Path, TrainSettings],
    base: Base,
    files: TrainFiles,
    work: Path,
    run: Run = Run(),
    limits: Limits = Limits(),
    watch: Watch | None = None,
) -> list[dict[str, Any]]:
    """Fine-tune several points over one foundation model in one process, as each would alone.

    Training runs on the base trimmed to the elements of the data, with the new E0s.  While another
    process trains the same, this one waits for it, and takes what it has made.  Where points fail
    at the last try (`limits.give_up`), they are marked in train.json and the others are not
    harmed; the same call trains those that failed again.

    Args:
        points: {folder of the point: its settings}; several have to be LoRA points.
        base: The foundation model.
        files: The data.
        work: The folder of the checkpoint.
        run: Threads, and the receipt for the contents of all train.json.
        limits: When to stop early, and whether this is the last try.
        watch: Called after each epoch of a point, in the first process.

    Returns:
        The contents of each train.json; [] in all but the first of several processes.

    Raises:
        UserError: Settings or data.
        Paused: It stopped early; run it again.
    """
    set_threads(run.threads)
    inputs = Inputs(points, base, files, Path(work), limits, watch)
    try:
        if not is_first():  # of several processes: the first one locks and writes for all
            with Interrupt(None, agree=any_of) as stop:
                return _train(Session(inputs, stop), waited=False)
        with (
            Lock(inputs.work / "lock") as lock,
            Interrupt(limits.minutes, lock.is_lost, any_of) as stop,
        ):
            results = _train(Session(inputs, stop), lock.waited)
            if run.receipt:
                run.receipt.write_points(results)
            if not note_failures(inputs.work, results):
                (inputs.work / FILE).unlink(missing_ok=True)
        return results
    finally:
        leave()


def _train(session: Session, waited: bool) -> list[dict[str, Any]]:
    """Train, take what another process has made meanwhile, or write down a crash.

    Args:
        session: The training.
        waited: True where another process was at work in the folder before.
    """
    made: list[dict[str, Any]] = []
    spare = Spare()
    try:
        made += session.load().made_before()
        if session.folders:
            whole = not session.inputs.limits.part
            meanwhile = session.made_meanwhile() if any_of(waited) and whole else []
            return made + (meanwhile or session.resume().run().save())
        return made
    except (UserError, Paused):
        raise
    except Exception as error:  # of torch, a driver, a bug: it may be of these points alone
        spare.give_back()
        if isinstance(error, OSError) and not out_of_memory(error):
            raise
        if not session.inputs.limits.give_up or rank_and_size()[1] > 1:
            raise
        why = MEMORY if out_of_memory(error) else _in_a_line(error)
        log.error("this was the last try: %s", why, exc_info=None if why == MEMORY else error)
        error.__traceback__ = None  # it holds what filled the memory
        return made + session.fail(why)


def _in_a_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])
