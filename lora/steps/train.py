"""Step `train`: one point of the grid, or a pack of them.

train/{point}/adapter/, metrics.jsonl, train.json     (and a checkpoint until it is done)
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from ase.data import chemical_symbols
from torch import nn

from lora.adapters.inject import take_adapters
from lora.adapters.pack import Pack
from lora.data.structures import elements_of, has_stress, is_isolated_atom, load_structures
from lora.errors import Paused, UserError
from lora.files.lock import Lock
from lora.files.provenance import facts
from lora.files.sealed import Receipt, digest, read_json, write_sealed
from lora.mace.device import check_device, set_threads
from lora.mace.elements import get_e0s, set_e0s, trim_elements
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse, message_width
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.heads import mark_replay, two_heads
from lora.mace.kernels import to_kernel
from lora.mace.loss import STRESS_LOSSES
from lora.mace.modules import count_parameters
from lora.plan.settings import TrainSettings
from lora.training.capacity import fit_cache, fit_memory
from lora.training.distributed import any_of, is_first, join_others, leave, rank_and_size
from lora.training.interrupt import Interrupt
from lora.training.loop import Fit
from lora.training.progress import Progress
from lora.training.results import (
    made_meanwhile,
    note_failures,
    peak_memory,
    result_of,
    save_point,
    write_history,
)
from lora.training.setup import common, nested, prepare
from lora.training.state import TrainingState
from lora.training.trainees import Single, Trainee

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
SAVE_EVERY = 600.0  # seconds between checkpoints within a long epoch

# (name of the point, key of its training, settings, line of metrics.jsonl)
Watch = Callable[[str, str, TrainSettings, dict], None]


def train(
    settings: TrainSettings,
    foundation: str | Path,
    train_file: str | Path,
    valid_file: str | Path,
    e0s_file: str | Path,
    out: str | Path,
    replay_file: str | Path | None = None,
    head: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
) -> dict:
    """Fine-tune a foundation model by one method and write the adapter, or the weights.

    The same call after an interruption goes on from the last finished epoch, to the same result.

    Args:
        settings: method, rank, alpha, learning rate and so on
        out: the folder of the point
        the others: as for `train_pack`

    Returns the contents of train.json.  Raises UserError: settings or data.
    """
    files = {"train_file": train_file, "valid_file": valid_file, "e0s_file": e0s_file}
    point = {Path(out): settings}
    limits = {"threads": threads, "time_limit": time_limit}
    results = train_pack(
        point, foundation, work=out, **files, replay_file=replay_file, head=head, **limits
    )
    return results[0] if is_first() else {}


def train_pack(
    points: dict[Path, TrainSettings],
    foundation: str | Path,
    work: str | Path,
    train_file: str | Path,
    valid_file: str | Path,
    e0s_file: str | Path,
    replay_file: str | Path | None = None,
    head: str | None = None,
    threads: int | None = None,
    receipt: Receipt | None = None,
    time_limit: float | None = None,
    watch: Watch | None = None,
    give_up: bool = False,
) -> list[dict]:
    """Fine-tune several points over one foundation model in one process, as each would alone.

    Training runs on the base trimmed to the elements of the data, with the new E0s.

    Args:
        points: {folder of the point: its settings}; several have to be LoRA points
        foundation, head: as for `load_foundation`
        work: folder of the checkpoint
        train_file, valid_file: of the split; free atoms in them are not trained on
        e0s_file: e0s.json
        replay_file: labelled structures of the foundation model's own kind, for protocol replay
        threads: CPU threads, None for torch's choice
        receipt: for the contents of all train.json, written when all is there
        time_limit: minutes after which to stop with a checkpoint, None for no limit
        watch: called after each epoch of a point, in the first process
        give_up: where points fail, mark them and end well, with their best weights so far; the
            others are not harmed, and the same call trains those that failed again

    While another process trains the same, this one waits for it, and takes what it has made.

    Returns the contents of each train.json.
    Raises UserError: settings or data; Paused: it stopped early, run it again.
    """
    set_threads(threads)
    files = {"train_file": train_file, "valid_file": valid_file, "e0s_file": e0s_file}
    own = {"watch": watch, "replay_file": replay_file, "give_up": give_up}
    try:
        if not is_first():  # of several processes: the first one locks and writes for all
            with Interrupt(None, agree=any_of) as stop:
                return _train(points, foundation, head, Path(work), stop, False, **own, **files)
        with Lock(Path(work) / "lock") as lock, Interrupt(time_limit, lock.is_lost, any_of) as stop:
            settled = (points, foundation, head, Path(work), stop, lock.waited)
            try:
                results = _train(*settled, **own, **files)
            except (UserError, Paused, OSError):
                raise
            except Exception as error:  # of torch, a driver, a bug: it may be of these points alone
                if not give_up or rank_and_size()[1] > 1:
                    raise
                results = _train(*settled, crash=_said(error), **own, **files)
                if not results:
                    raise
                log.exception("this was the last try")
            if receipt:
                receipt.write_points(results)
            if not note_failures(Path(work), results):
                (Path(work) / CHECKPOINT).unlink(missing_ok=True)
        return results
    finally:
        leave()


def _train(
    points: dict[Path, TrainSettings],
    foundation: str | Path,
    head: str | None,
    work: Path,
    stop: Interrupt,
    waited: bool,
    watch: Watch | None,
    train_file: str | Path,
    valid_file: str | Path,
    e0s_file: str | Path,
    replay_file: str | Path | None,
    give_up: bool,
    crash: str = "",
) -> list[dict]:
    """What `train_pack` does, once nobody else can be at it.

    crash: why the training broke off; it is not gone on with, and what the checkpoint has of it
           is its result.  On the CPU, because a GPU may be of no use after a crash.
    """
    settings = [one.resolved() for one in points.values()]
    s = common(settings)
    at = "cpu" if crash else s.device
    check_device(at)
    device = join_others(at)
    torch.backends.cuda.matmul.allow_tf32 = s.allow_tf32
    structures = [a for a in load_structures(train_file) if not is_isolated_atom(a)]
    validation = [a for a in load_structures(valid_file) if not is_isolated_atom(a)]
    stress = any(one.loss in STRESS_LOSSES for one in settings)
    if stress and not has_stress(structures + validation):
        raise UserError(f"{train_file}: loss {s.loss} needs a stress on every structure")

    base = load_foundation(foundation, head, getattr(torch, s.default_dtype))
    if s.replay and not replay_file:
        raise UserError("protocol: replay needs structures to replay; set replay.file")
    more = [replay_file] if s.replay and replay_file else []
    data = digest(train_file, valid_file, e0s_file, *more)
    rank = str(max(one.rank for one in settings))  # a pack pads to it
    keys = [_key(one, rank, base.base_fingerprint, data) for one in settings]
    made = made_meanwhile(points, keys) if any_of(waited) else []
    if made:
        return made
    replayed = []
    if s.replay:
        replayed = mark_replay(load_structures(replay_file), s.replay_weight)
        base = two_heads(base)
    model = trim_elements(base, elements_of(structures + validation + replayed))
    tuned = [chemical_symbols[z] for z in elements_of(structures + validation)]
    structures = nested(structures, s.train_fraction, s.seed)
    e0s = read_json(e0s_file)["E0s"]
    set_e0s(model, {x: energy for x, energy in e0s.items() if x in get_e0s(model)})
    if s.enable_cueq:
        model = to_kernel(model, "cueq", device)
    model.to(device)
    before = count_parameters(model)[1]
    trainee, trained, counted = _trainee(model, settings)
    running = [TrainingState(t, one) for t, one in zip(trained, settings, strict=True)]
    shown = graphs(structures + replayed, model)
    fit = Fit(trainee, running, shown, graphs(validation, model), keys)
    resumed = fit.resume(work / CHECKPOINT)
    if crash:
        if resumed < len(running):  # nothing there to go by
            return []
        fit.fail(crash)
    elif not resumed:
        fit_memory(fit) if at.startswith("cuda") else fit_cache(fit, message_width(model))
    folders = dict(zip(map(id, running), points, strict=True))
    _run(fit, folders, work / CHECKPOINT, stop, watch)
    if not is_first():
        return []
    failed = {folders[id(point)].name: point.reason for point in running if point.failed}
    if failed and not give_up:
        raise UserError("; ".join(f"{name}: {why}" for name, why in failed.items()))

    shared = {
        "base_fingerprint": base.base_fingerprint,
        "data_digest": data,
        "machine": facts(at),
        "pack_size": fit.together,
        "parameters_before": before,
        "n_train": len(structures),
        "n_valid": len(validation),
        "n_replay": len(replayed),
        "peak_memory_mb": peak_memory(at),
    }
    results = []
    for i, (out, point) in enumerate(zip(points, running, strict=True)):
        write_history(out, point)  # again, for a kill after the last checkpoint
        notes = {"base_name": str(foundation), "best_epoch": point.best_epoch}
        own = {"folder": out / "adapter", "tuned": tuned, "notes": notes}
        found = save_point(trainee, i, point.settings, base, **own)
        results.append(result_of(out, point, counted[i]) | shared | {"key": keys[i]} | found)
        write_sealed(out / "train.json", results[-1], [out / "metrics.jsonl"])
    return results


def _run(
    fit: Fit, folders: dict[int, Path], checkpoint: Path, stop: Interrupt, watch: Watch | None
) -> None:
    """Train to the end, with a checkpoint at every epoch, every `SAVE_EVERY` and at a stop."""
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if is_first():
            fit.save(checkpoint)
        saved = time.monotonic()

    def each_step() -> None:
        stop.check()
        if time.monotonic() - saved > SAVE_EVERY:
            save()

    with Progress(fit.points[0].settings.max_num_epochs) as progress:

        def each_epoch(done: list[TrainingState]) -> None:
            save()
            for point in done if is_first() else []:
                out = folders[id(point)]
                write_history(out, point)
                progress.show(out.name, point.history)
                if watch:
                    key = fit.keys[fit.points.index(point)]
                    watch(out.name, key, point.settings, point.history[-1])
            stop.check()

        try:
            fit.run(each_epoch, each_step)
        except Paused:
            if not stop.lost():
                save()
            raise


def _trainee(
    model: nn.Module, settings: list[TrainSettings]
) -> tuple[Trainee, list[dict[str, nn.Parameter]], list[tuple[int, int]]]:
    """What computes all points, what each of them trains, and its (trainable, total) parameters."""
    fuse(model)
    layers, counted = [], []
    for one in settings:
        prepare(model, one)
        counted.append(count_parameters(model))
        layers.append(take_adapters(model))
    if settings[0].method != "lora":
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        return Single(model), [trained], counted
    pack = Pack(model, layers).to(next(model.parameters()).device)
    fold(pack.model)
    return pack, [{"factors": row} for row in pack.rows], counted


def _key(settings: TrainSettings, *parts: str) -> str:
    text = json.dumps(asdict(settings), sort_keys=True) + " ".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _said(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])
