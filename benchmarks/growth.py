"""Time and memory as a sweep grows: structures, points, models.

    python benchmarks/growth.py              # about half an hour, most of it 100,000 structures

Each measurement runs in a process of its own, so that its peak memory is its own.  Prints one line
of JSON each.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
BASE = ROOT / "workflow/resources/quickstart/base.model"
WORK = Path(tempfile.gettempdir()) / "mace_lora_growth"


def write_data(n: int) -> Path:
    """n ethanols with noise, with labels of no meaning."""
    from step import structures

    from lora.data.structures import write_structures

    path = WORK / f"{n}.xyz"
    if not path.is_file():
        write_structures(path, structures(n))
    return path


def split_structures(n: int) -> None:
    from lora.data.grouping import SplitSettings
    from lora.steps.split import split

    split(write_data(n), SplitSettings(), WORK / f"split{n}")


def pass_over_structures(n: int) -> None:
    """What a training holds: structures and graphs, and the making of up to 2,000 of them."""
    from lora.data.structures import load_structures
    from lora.mace.foundation import load_foundation
    from lora.mace.graphs import batches, graphs

    data = graphs(load_structures(write_data(n)), load_foundation(BASE))
    for i, _ in enumerate(batches(data, 10, shuffle=0)):
        if i == 200:
            break


def evaluate_models(n: int) -> None:
    from lora.plan.commands import Run
    from lora.steps.evaluate import evaluate

    data = ROOT / "workflow/resources/quickstart/malonaldehyde_300K.xyz"
    models = {WORK / f"models/{i}.json": BASE for i in range(n)}
    from lora.data.structures import read_structures, write_structures

    test = read_structures(data)
    for atoms in test:
        atoms.info["test_set"] = "test"
    write_structures(WORK / "test.xyz", test)
    evaluate(models, WORK / "test.xyz", WORK / "test.xyz", run=Run(threads=1))


def track_points(n: int) -> None:
    """n points of 100 epochs into a new store, then again."""
    from lora.files.sealed import write_sealed, write_text
    from lora.plan.config import Config
    from lora.plan.sweep import Sweep
    from lora.steps.track import TrackSettings, track

    raw = {"foundation": {"model": "base.model"}, "data": {"file": "data.xyz"}}
    raw |= {"results": str(WORK / f"track{n}"), "baselines": []}
    raw["grid"] = {"rank": list(range(1, n + 1))}
    sweep = Sweep.from_config(Config.model_validate(raw))
    line = {"train_loss": 1.0, "valid_loss": 1.0, "lr": 0.01, "timestamp": 1.7e9}
    line |= {"valid_rmse_e_mev_per_atom": 1.0, "valid_rmse_f_mev_per_a": 1.0}
    history = "".join(json.dumps(line | {"epoch": e}) + "\n" for e in range(101))
    numbers = {f"{k}_{q}": 1.0 for k in ("rmse", "mae") for q in ("e_mev_per_atom", "f_mev_per_a")}
    result = {"trainable_parameters": 1, "total_parameters": 2}
    result |= {"seconds": 1.0, "peak_memory_mb": 1}
    for point in sweep.points.values():
        folder = sweep.layout.training(point.name)
        write_text(folder / "metrics.jsonl", history)
        write_sealed(folder / "train.json", result | {"settings": point.values()})
        sets = {"valid": numbers, "test": numbers}
        write_sealed(sweep.layout.errors(point.name), {"sets": sets})
    settings = TrackSettings(experiment="growth")
    started = time.perf_counter()
    track(sweep, settings)
    first = time.perf_counter() - started
    started = time.perf_counter()
    track(sweep, settings)
    print(json.dumps({"first": round(first, 1), "again": round(time.perf_counter() - started, 1)}))


def dry_run(n: int) -> None:
    overlay = WORK / "overlay.yaml"
    grid = {"rank": list(range(1, n // 4 + 1)), "alpha": [1, 2, 3, 4], "seed": [3]}
    overlay.write_text(
        yaml.safe_dump({"results": str(WORK / "none"), "grid": grid, "pack": {"size": 4}})
    )
    command = ["snakemake", "-n", "--quiet", "--configfile", "config/config.yaml", str(overlay)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


MEASURED = [
    (split_structures, (1_000, 10_000, 100_000)),
    (pass_over_structures, (1_000, 10_000, 100_000)),
    (evaluate_models, (1, 10, 100)),
    (track_points, (10, 100, 1_000)),
    (dry_run, (10, 100, 1_000)),
]


def main() -> None:
    WORK.mkdir(exist_ok=True)
    if len(sys.argv) > 1:  # one measurement
        name, n = sys.argv[1], int(sys.argv[2])
        write_data(n) if "structures" in name else None
        np.random.seed(0)
        started = time.perf_counter()
        globals()[name](n)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        found = {"what": name, "n": n, "seconds": round(seconds, 1), "peak_mb": peak // 1024}
        print(json.dumps(found))
        return
    for function, sizes in MEASURED:
        for n in sizes:
            command = [sys.executable, __file__, function.__name__, str(n)]
            done = subprocess.run(
                command, cwd=Path(__file__).parent, capture_output=True, text=True
            )
            print(done.stdout.strip() or done.stderr.strip()[-500:], flush=True)


if __name__ == "__main__":
    main()
