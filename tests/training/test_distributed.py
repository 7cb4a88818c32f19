"""A training shared out to two processes equals that of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support import counts, forkserver
from tests.support.trainings import lines_of

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TORCHRUN += ["--nproc_per_node", "2", "-m", "lora.cli"]
KINDS = [("lora", "weighted"), ("lora", "huber"), ("full", "weighted")]


@pytest.mark.long
@pytest.mark.parametrize(("method", "loss"), KINDS[: counts.of(2, 3)])
def test_two_processes_equal_one(
    files: dict[str, Path],
    tmp_path: Path,
    method: str,
    loss: str,
) -> None:
    """Batches of 3, 3, 3 and of 4, 4, 1: shares of unequal size, and one too small to share."""
    along = {"batch_size": 4, "rank": 2, "start": "gradient"}
    points = {"a": {"batch_size": 3, "rank": 1}, "b": along}
    points = points if method == "lora" else {"a": {"batch_size": 4}}
    command = ["train", *(str(files[x]) for x in ("train_file", "valid_file"))]
    command += ["--foundation", str(files["foundation"]), "--e0s_file", str(files["e0s_file"])]
    command += ["--points", json.dumps(points), "--method", method, "--max_num_epochs", "5"]
    command += ["--loss", loss, "--lr", "0.02", "--threads", "1", "--out"]
    env = os.environ | forkserver.environment()
    for name, start in (("one", ["mace-lora"]), ("two", TORCHRUN)):
        run = [*start, *command, str(tmp_path / name)]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
    for point in points:
        one, two = (lines_of(tmp_path / x / point) for x in ("one", "two"))
        assert one[-1]["valid_loss"] < 0.9 * one[0]["valid_loss"]
        for a, b in zip(one, two, strict=True):
            for key in ("train_loss", "valid_loss", "valid_rmse_f_mev_per_a", "lr"):
                assert (a[key] or 0) == pytest.approx(b[key] or 0, rel=1e-8), key
        paths = [
            next((tmp_path / x / point / "adapter").glob("*.safetensors")) for x in ("one", "two")
        ]
        tensors = [load_file(path) for path in paths]
        for name, values in tensors[0].items():
            scale = np.abs(values).max()
            assert np.abs(tensors[1][name] - values).max() <= 1e-8 * scale, name
    assert not list((tmp_path / "two").glob("lock"))
