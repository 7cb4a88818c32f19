"""Sweeps of any size without a training: what their steps leave, with numbers that are made up.

Not a benchmark; `benchmarks/pages.py` makes pages of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lora.files.sealed import Receipt, read_json  # noqa: E402
from lora.plan.sweep import Sweep  # noqa: E402
from lora.steps.choose import choose  # noqa: E402
from tests.support import results as fake  # noqa: E402

QUICKSTART = ROOT / "workflow/resources/quickstart"
EPOCHS, FRAMES = 100, 50  # of a training; of a set
CHECKS = ("forgetting", "dimers", "eos", "nve")
EPOCH, RNG = fake.epoch, np.random.default_rng(0)
ENVIRONMENT = os.environ | {  # of commands: this clone's library
    "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def grid_of(n: int) -> dict[str, list[int]]:
    """A grid of n points, or of a few less: ranks, alphas and, of many, seeds."""
    seeds = 5 if n >= 100 else 1
    ranks = min(10, max(1, n // seeds))
    alphas = max(1, n // seeds // ranks)
    return {
        "rank": list(range(1, ranks + 1)),
        "alpha": [4 * i for i in range(1, alphas + 1)],
        "seed": list(range(seeds)),
    }


def noisy_epoch(i: int, gone: str = "") -> dict[str, Any]:
    """An epoch of a training that converges, no two of them alike."""
    force = float(30 + 300 / (1 + i) + RNG.random())
    numbers = {"epoch": i, "timestamp": 1.7e9 + i, "valid_rmse_f_mev_per_a": force}
    return EPOCH(1) | numbers | {"valid_rmse_e_mev_per_atom": force / 20}


def make(home: Path, n: int) -> Sweep:
    """Write what the steps of a sweep of n points leave, up to its choice; return the sweep."""
    folder = home / str(n)
    results = folder / "results"
    if (results / "report/best.json").is_file():
        return Sweep.load(results / "plan.json")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    raw = {
        "results": str(results),
        "foundation": {"model": str(QUICKSTART / "base.model")},
        "data": {"file": str(QUICKSTART / "malonaldehyde_300K.xyz")},
        "grid": grid_of(n),
        "baselines": ["foundation", "full"],
        "methods": {"full": {"lr": 0.001}},
        "train": {"max_num_epochs": EPOCHS},
        "export": {"engines": []},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    fake.EPOCHS, fake.epoch = EPOCHS, noisy_epoch  # type: ignore[assignment]
    for name in ("parity", "frames"):
        function = getattr(fake, name)
        whole = function.func if isinstance(function, partial) else function
        setattr(fake, name, partial(whole, n=FRAMES))
    own = {k: v for k, v in raw.items() if k != "results"}
    sweep = fake.make_sweep(folder, **own)
    rng = np.random.default_rng(0)
    errors = {name: 60.0 + 9 * rng.random() for name in sweep.points} | {"foundation": 900.0}
    checks = {x: {"forgetting": 100 + 9 * rng.random()} for x in sweep.points}
    checks = {x: dict.fromkeys(CHECKS, 0.0) | own for x, own in checks.items()}
    fake.write_results(sweep, errors, checks=checks)
    timed("foundation", str(sweep.layout.plan))
    choose(sweep, Receipt(sweep.layout.receipt("choose")))
    best = sweep.layout.model(read_json(sweep.layout.receipt("choose"))["point"])
    shutil.copy(QUICKSTART / "base.model", best)
    return sweep


def timed(*command: str, program: tuple[str, ...] = ("-m", "lora.cli")) -> dict[str, float]:
    """Run a command of the library: its seconds, peak memory (MB), and lines printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *program, *command],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=said,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        said.seek(0)
        printed = said.read().decode()
    if status:
        raise SystemExit(f"{' '.join(command)}: {printed[-3000:]}")
    seconds = time.perf_counter() - started
    return {"s": seconds, "MB": used.ru_maxrss / 1024, "lines": len(printed.splitlines())}
