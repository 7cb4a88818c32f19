"""The loop over several points: what fits into memory, who goes together, and a real kill -9."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from lora.errors import UserError
from lora.mace.fast.convolution import fuse, message_width
from lora.mace.graphs import graphs
from lora.training.capacity import fit_cache, fit_memory
from lora.training.loop import Fit
from tests.support import forkserver
from tests.support.models import make_model, structures
from tests.support.packs import EPOCHS, POINTS, packed
from tests.support.trainings import lines_of

SHORT = POINTS[2]["max_num_epochs"]


def make_fit(n: int) -> Fit:
    base = make_model()
    data = graphs(structures(), base)
    pack, points = packed(base, (POINTS * 2)[:n], {})
    return Fit(pack, points, data, data)


def test_points_that_do_not_fit_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that holds two points at once, made up: memory cannot run out here for real."""
    fit, original, tried = make_fit(5), Fit._outputs, []

    def small(self: Fit, batch: object, group: list[int], training: bool) -> list:
        tried.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError
        return original(self, batch, group, training)

    monkeypatch.setattr(Fit, "_outputs", small)
    assert fit_memory(fit) == 2 == fit.together
    assert tried == [5, 3, 2, 2]
    fit.run(lambda _: None)  # in groups of two, each to its own end
    assert max(tried[4:]) == 2
    assert [point.epoch for point in fit.points] == [EPOCHS, EPOCHS, SHORT, EPOCHS, EPOCHS]

    def nothing_fits(*_: object, **__: object) -> list:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Fit, "_outputs", nothing_fits)
    with pytest.raises(UserError, match="batch_size 2, valid_batch_size 32: do not fit"):
        fit_memory(make_fit(2))


def test_what_pays_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many copies of the messages of a batch as the cache holds, halved until it does."""
    fit = make_fit(5)
    assert message_width(fit.model.model) == 4 * (1 + 3 + 5 + 3 + 1 + 5 + 3)  # of the messages
    fuse(fit.model.model)
    width = message_width(fit.model.model)
    assert width == 4 * (3 * 1 + 4 * 3)  # features, 0e in three paths, 1o in four
    edges = 2 * sum(graph.edge_index.shape[1] for graph in fit.train) / len(fit.train)
    for holds, expected in ((0.1, 1), (1.5, 1), (2.5, 2), (3.5, 3), (9.0, 5)):
        fit.together = 5
        monkeypatch.setattr("lora.training.capacity.CACHE", holds * edges * width * 8)
        assert fit_cache(fit, width) == expected


def test_points_go_together_that_can() -> None:
    fit = make_fit(3)
    sizes = []
    fit.run(lambda points: sizes.append(len(points)))
    # before training, then each epoch; the third point stops before the others
    assert sizes == [3] * (1 + SHORT) + [2] * (EPOCHS - SHORT)


@pytest.mark.slow
def test_killed_for_real(files: dict[str, Path], tmp_path: Path) -> None:
    """kill -9 in the middle of a pack, twice; then the same command: equal to the last byte."""
    points = {"a": {"rank": 1, "lr": 0.02}, "b": {"rank": 2, "alpha": 4.0, "max_num_epochs": 25}}
    command, env = ["mace-lora", "train"], os.environ | forkserver.environment()
    command += [str(files[x]) for x in ("train_file", "valid_file")]
    command += ["--foundation", str(files["foundation"]), "--e0s_file", str(files["e0s_file"])]
    command += ["--points", json.dumps(points), "--batch_size", "3", "--max_num_epochs", "30"]
    command += ["--threads", "1", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, env=env)

    out, killed = tmp_path / "killed", 0
    for epochs in (3, 12):
        process = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL, env=env)
        metrics = out / "a/metrics.jsonl"
        while process.poll() is None:
            if metrics.is_file() and len(metrics.read_text().splitlines()) > epochs:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        process.wait()
    assert killed == 2 and not (out / "a/train.json").exists()
    subprocess.run([*command, str(out)], check=True, capture_output=True, env=env)
    clock = ("seconds", "timestamp", "system")
    for name in points:
        a, b = lines_of(tmp_path / "whole" / name), lines_of(out / name)
        for x, y in zip(a, b, strict=True):
            assert {k: x[k] for k in x if k not in clock} == {k: y[k] for k in y if k not in clock}
        tensors = [
            (x / name / "adapter/adapter.safetensors").read_bytes()
            for x in (out, tmp_path / "whole")
        ]
        assert tensors[0] == tensors[1]
