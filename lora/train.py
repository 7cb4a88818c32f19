"""Step `train`: one point of the grid.

train/{point}/adapter/, metrics.jsonl, train.json     (and checkpoint.pt until it is done)
"""

import hashlib
import json
import logging
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from lora.adapter import save_adapter, save_weights
from lora.config import TrainSettings, UserError
from lora.data import graphs, has_stress, set_threads
from lora.files import digest, read_json, write_json, write_text
from lora.fit import STRESS_LOSSES, Fit
from lora.foundation import get_e0s, load_foundation, set_e0s, trim_elements
from lora.inject import count_parameters, inject_lora
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

    Training runs on the base trimmed to the elements of the data, with the new E0s.  The same
    call after an interruption goes on from the last finished epoch, to the same result.

    Args:
        settings: method, rank, alpha, learning rate and so on
        foundation, head: as for `load_foundation`
        train_file, valid_file: of the split; free atoms in them are not trained on
        e0s_file: e0s.json
        out: the folder of the point
        threads: CPU threads, None for torch's choice

    Returns the contents of train.json.  Raises UserError: settings, data, or a diverged loss.
    """
    settings, out = settings.resolved(), Path(out)
    set_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    structures = [a for a in load_structures(train_file) if not is_isolated_atom(a)]
    validation = [a for a in load_structures(valid_file) if not is_isolated_atom(a)]
    if settings.loss in STRESS_LOSSES and not has_stress(structures + validation):
        raise UserError(f"{train_file}: loss {settings.loss} needs a stress on every structure")

    base = load_foundation(foundation, head, getattr(torch, settings.default_dtype))
    model = trim_elements(base, elements_of(structures + validation))
    e0s = read_json(e0s_file)["E0s"]
    set_e0s(model, {symbol: e0s[symbol] for symbol in get_e0s(model)})
    before = count_parameters(model)
    prepare(model, settings)
    trainable, total = count_parameters(model)
    log.info(
        "%s: %d of %d parameters train (%d of %d before)",
        *(settings.method, trainable, total, *before),
    )

    fit = Fit(model, graphs(structures, model), graphs(validation, model), settings)
    checkpoint = out / "checkpoint.pt"
    key = _key(settings, base.base_fingerprint, digest(train_file, valid_file, e0s_file))
    fit.resume(checkpoint, key)
    with _progress(settings.max_num_epochs, out.name) as show:

        def each_epoch(fit: Fit) -> None:
            fit.save(checkpoint, key)
            write_text(out / "metrics.jsonl", "".join(json.dumps(x) + "\n" for x in fit.history))
            show(fit.history)

        ended = fit.run(each_epoch)

    notes = {"base_name": str(foundation), "best_epoch": fit.best_epoch}
    model = model.to("cpu")
    if settings.method == "lora":
        save_adapter(model, out / "adapter", **notes)
    else:
        save_weights(model, base, out / "adapter", **notes)
    result = {
        "point": out.name,
        "settings": asdict(settings),
        "base_fingerprint": base.base_fingerprint,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "parameters_before": before[1],
        "n_train": len(structures),
        "n_valid": len(validation),
        "epochs": len(fit.history) - 1,
        "ended_by": ended,
        "best_epoch": fit.best_epoch,
        "best": fit.history[fit.best_epoch],
        "seconds": round(fit.seconds, 1),
        "peak_memory_mb": _peak_memory(settings.device),
    }
    write_json(out / "train.json", result)
    checkpoint.unlink(missing_ok=True)
    return result


def prepare(model: nn.Module, settings: TrainSettings) -> None:
    """Inject LoRA, or say which weights train (`naive`: all; `freeze`: by MACE's levels)."""
    torch.manual_seed(settings.seed)
    if settings.method == "lora":
        own = {"scaling": settings.scaling, "targets": settings.targets}
        inject_lora(model, settings.rank, settings.alpha, **own)
        return
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if settings.method == "freeze":
        frozen_from = {"node_embedding": 1, "interactions": 5, "products": 6}
        for name, level in frozen_from.items():
            if settings.freeze >= level:
                getattr(model, name).requires_grad_(False)


def _key(settings: TrainSettings, *parts: str) -> str:
    text = json.dumps(asdict(settings), sort_keys=True) + " ".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _peak_memory(device: str) -> int:
    """MB: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated() / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class _progress:
    """A bar with errors on a terminal, a line an epoch in a log."""

    def __init__(self, epochs: int, name: str) -> None:
        self.epochs, self.name, self.bar = epochs, name, None

    def __enter__(self) -> Callable[[list[dict]], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(self.name, total=self.epochs)
            self.bar.start()
        return self.show

    def show(self, history: list[dict]) -> None:
        now, best = history[-1], min(line["valid_loss"] for line in history)
        text = (
            f"epoch {now['epoch']:>4}/{self.epochs}  valid loss {now['valid_loss']:.3e}"
            f"{'*' if now['valid_loss'] == best else ' '} "
            f"E {now['valid_rmse_e_mev_per_atom']:7.2f} meV/atom  "
            f"F {now['valid_rmse_f_mev_per_a']:7.2f} meV/Å  "
            f"lr {now['lr']:.1e}  {now['seconds']:.1f} s"
        )
        if self.bar:
            self.bar.update(self.task, completed=now["epoch"], description=text)
        else:
            log.info(text)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
