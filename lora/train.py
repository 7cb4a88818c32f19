"""Step `train`: one point of the grid, or a pack of them.

train/{point}/adapter/, metrics.jsonl, train.json     (and a checkpoint until it is done)
"""

import hashlib
import json
import logging
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora.adapter import save_adapter, save_weights
from lora.config import TrainSettings, UserError
from lora.convolution import fuse, message_width, unfuse
from lora.data import graphs, has_stress, set_threads
from lora.elements import get_e0s, set_e0s, trim_elements
from lora.factors import spectra
from lora.files import digest, read_json, write_json, write_receipt, write_text
from lora.fit import Fit, Single, Trainee
from lora.fold import fold
from lora.foundation import load_foundation
from lora.inject import Injection, count_parameters, inject_lora, take_adapters
from lora.kernels import from_kernel, to_kernel
from lora.pack import Pack
from lora.point import STRESS_LOSSES, Point
from lora.structures import elements_of, is_isolated_atom, load_structures

log = logging.getLogger(__name__)


def train(
    settings: TrainSettings,
    foundation: str | Path,
    train_file: str | Path,
    valid_file: str | Path,
    e0s_file: str | Path,
    out: str | Path,
    head: str | None = None,
    threads: int | None = None,
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
    return train_pack(point, foundation, work=out, **files, head=head, threads=threads)[0]


def train_pack(
    points: dict[Path, TrainSettings],
    foundation: str | Path,
    work: str | Path,
    train_file: str | Path,
    valid_file: str | Path,
    e0s_file: str | Path,
    head: str | None = None,
    threads: int | None = None,
    receipt: str | Path | None = None,
) -> list[dict]:
    """Fine-tune several points over one foundation model in one process, as each would alone.

    Training runs on the base trimmed to the elements of the data, with the new E0s.

    Args:
        points: {folder of the point: its settings}; several have to be LoRA points
        foundation, head: as for `load_foundation`
        work: folder of the checkpoint
        train_file, valid_file: of the split; free atoms in them are not trained on
        e0s_file: e0s.json
        threads: CPU threads, None for torch's choice
        receipt: a json file for the contents of all train.json, written when all is there

    Returns the contents of each train.json.
    Raises UserError: settings or data.
    """
    set_threads(threads)
    settings = [one.resolved() for one in points.values()]
    s = _common(settings)
    structures = [a for a in load_structures(train_file) if not is_isolated_atom(a)]
    validation = [a for a in load_structures(valid_file) if not is_isolated_atom(a)]
    stress = any(one.loss in STRESS_LOSSES for one in settings)
    if stress and not has_stress(structures + validation):
        raise UserError(f"{train_file}: loss {s.loss} needs a stress on every structure")

    base = load_foundation(foundation, head, getattr(torch, s.default_dtype))
    model = trim_elements(base, elements_of(structures + validation))
    e0s = read_json(e0s_file)["E0s"]
    set_e0s(model, {symbol: e0s[symbol] for symbol in get_e0s(model)})
    if s.enable_cueq:
        model = to_kernel(model, "cueq", s.device)
    model.to(s.device)
    before = count_parameters(model)[1]
    trainee, trained, counted = _trainee(model, settings)
    data = digest(train_file, valid_file, e0s_file)
    rank = str(max(one.rank for one in settings))  # a pack pads to it
    keys = [_key(one, rank, base.base_fingerprint, data) for one in settings]
    running = [Point(t, one) for t, one in zip(trained, settings, strict=True)]
    fit = Fit(trainee, running, graphs(structures, model), graphs(validation, model), keys)
    checkpoint = Path(work) / "checkpoint.pt"
    Path(work).mkdir(parents=True, exist_ok=True)
    if not fit.resume(checkpoint):
        on_gpu = s.device.startswith("cuda")
        fit.fit_memory() if on_gpu else fit.fit_cache(message_width(model))
    folder_of = dict(zip(map(id, running), points, strict=True))
    with _progress(s.max_num_epochs) as show:

        def each_epoch(done: list[Point]) -> None:
            fit.save(checkpoint)
            for point in done:
                out = folder_of[id(point)]
                lines = "".join(json.dumps(line) + "\n" for line in point.history)
                write_text(out / "metrics.jsonl", lines)
                show(out.name, point.history)

        fit.run(each_epoch)

    shared = {
        "base_fingerprint": base.base_fingerprint,
        "pack_size": fit.together,
        "parameters_before": before,
        "n_train": len(structures),
        "n_valid": len(validation),
        "peak_memory_mb": _peak_memory(s.device),
    }
    results = []
    for i, (out, point) in enumerate(zip(points, running, strict=True)):
        notes = {"base_name": str(foundation), "best_epoch": point.best_epoch}
        found = _save(trainee, i, point.settings, base, out / "adapter", notes)
        results.append(_result(out, point, counted[i]) | shared | found)
        write_json(out / "train.json", results[-1])
    write_receipt(receipt, results)
    checkpoint.unlink(missing_ok=True)
    return results


def _common(settings: list[TrainSettings]) -> TrainSettings:
    """The first of the settings, once it is clear that they can train together."""
    first = settings[0]
    for one in settings[1:]:
        for name in ("method", "default_dtype", "device", "enable_cueq"):
            if getattr(one, name) != getattr(first, name):
                raise UserError(f"pack: its points need the same {name}")
    if len(settings) > 1 and first.method != "lora":
        raise UserError(f"pack: {first.method} changes the base; only LoRA points share one")
    return first


def prepare(model: nn.Module, settings: TrainSettings) -> None:
    """Inject LoRA, or say which weights train (`naive`: all; `freeze`: by MACE's levels)."""
    torch.manual_seed(settings.seed)
    if settings.method == "lora":
        own = {"scaling": settings.scaling, "targets": settings.targets}
        inject_lora(model, settings.rank, settings.alpha, **own)
    else:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    if settings.method == "freeze":
        frozen_from = {"node_embedding": 1, "interactions": 5, "products": 6}
        for name, level in frozen_from.items():
            if settings.freeze >= level:
                getattr(model, name).requires_grad_(False)
    log.info("%s: %d of %d parameters train", settings.method, *count_parameters(model))


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
    pack = Pack(model, layers).to(settings[0].device)
    fold(pack.model)
    return pack, [{"factors": row} for row in pack.rows], counted


def _key(settings: TrainSettings, *parts: str) -> str:
    text = json.dumps(asdict(settings), sort_keys=True) + " ".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _save(
    trainee: Trainee, i: int, s: TrainSettings, base: nn.Module, folder: Path, notes: dict
) -> dict:
    """Write the adapter, or the weights, of a point.  Returns an adapter's spectra."""
    if isinstance(trainee, Pack):
        model = trainee.dissolve(i)
        model.lora_injection = Injection(s.rank, s.alpha, s.scaling, s.targets)
        save_adapter(model, folder, **notes)
        return spectra(take_adapters(model).items())
    assert isinstance(trainee, Single)
    model = unfuse(trainee.model)
    model = from_kernel(model, "cueq") if s.enable_cueq else model.cpu()
    prepare(model, s)  # a converted model has lost what trains
    save_weights(model, base, folder, **notes)
    return {}


def _result(out: Path, point: Point, counted: tuple[int, int]) -> dict:
    trainable, total = counted
    return {
        "point": out.name,
        "settings": asdict(point.settings),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "epochs": point.epoch,
        "ended_by": point.ended(),
        "best_epoch": point.best_epoch,
        "best": point.history[point.best_epoch],
        "seconds": round(point.seconds, 1),
    }


def _peak_memory(device: str) -> int:
    """MB: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated() / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class _progress:
    """A bar a point with its errors on a terminal, a line an epoch in a log."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.bar = epochs, None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Callable[[str, list[dict]], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.start()
        return self.show

    def show(self, name: str, history: list[dict]) -> None:
        now, best = history[-1], min(line["valid_loss"] for line in history)
        text = (
            f"{name}  epoch {now['epoch']:>4}/{self.epochs}  valid loss {now['valid_loss']:.3e}"
            f"{'*' if now['valid_loss'] == best else ' '} "
            f"E {now['valid_rmse_e_mev_per_atom']:7.2f} meV/atom  "
            f"F {now['valid_rmse_f_mev_per_a']:7.2f} meV/Å  "
            f"lr {now['lr']:.1e}  {now['seconds']:.1f} s"
        )
        if self.bar:
            if name not in self.tasks:
                self.tasks[name] = self.bar.add_task(name, total=self.epochs)
            self.bar.update(self.tasks[name], completed=now["epoch"], description=text)
        else:
            log.info(text)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
