"""Which start of the factor A trains best: `documented` or `upstream`, on several datasets.

    python benchmarks/start.py --out out acac=acac.xyz:energy:forces aspirin=aspirin.xyz ...

Each dataset is split at random (100 structures to train on, 50 to validate), the E0s are
estimated, and LoRA of rank 8 and alpha 32 is trained on the quickstart's base from both starts
with three seeds: settings of the quickstart in float32, 15 epochs.  All points of a dataset share
one process.  Prints the force RMSE on the validation set (meV/Å) after the last epoch.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase.io import read
from scipy.stats import ttest_ind

ROOT = Path(__file__).parents[1]
BASE = ROOT / "workflow/resources/quickstart/base.model"
STARTS, SEEDS = ("documented", "upstream"), (1, 2, 3)
N_TRAIN, N_VALID = 100, 50
SETTINGS = {"rank": 8, "alpha": 32.0, "energy_weight": 1.0, "forces_weight": 1.0, "batch_size": 5}
SETTINGS |= {"max_num_epochs": 15, "patience": 15, "default_dtype": "float32"}


def command(*words: object) -> None:
    """Run a step of mace-lora."""
    subprocess.run([sys.executable, "-m", "lora.cli", *map(str, words)], check=True)


def measure(name: str, data: Path, keys: list[str], out: Path) -> dict[str, list[float]]:
    """Return the force RMSE (meV/Å) of each start, a number for each seed."""
    n = len(read(data, ":"))
    test = max(0, 1 - (N_TRAIN + N_VALID) / n)
    shares = ["--valid_fraction", N_VALID / n, "--test_fraction", test]
    given = ["--energy_key", keys[0], "--forces_key", keys[1]] if keys else []
    folder = out / name
    command("split", data, "--out", folder / "data", *shares, *given)
    train, valid = folder / "data/train.xyz", folder / "data/valid.xyz"
    base = ["--foundation", BASE]
    command("e0s", train, *base, "--out", folder / "e0s.json")
    points = {
        f"{start}_s{seed}": SETTINGS | {"start": start, "seed": seed}
        for start in STARTS
        for seed in SEEDS
    }
    given = ["--e0s_file", folder / "e0s.json", "--out", folder, "--work", folder / "work"]
    command("train", train, valid, *base, *given, "--points", json.dumps(points))
    found: dict[str, list[float]] = {start: [] for start in STARTS}
    for place, point in points.items():
        last = json.loads((folder / place / "metrics.jsonl").read_text().splitlines()[-1])
        found[str(point["start"])].append(float(last["valid_rmse_f_mev_per_a"]))
    return found


def main() -> None:
    """Measure every dataset that is named, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", help="NAME=FILE or NAME=FILE:ENERGY_KEY:FORCES_KEY")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for one in args.datasets:
        name, _, rest = one.partition("=")
        file, *keys = rest.split(":")
        found = measure(name, Path(file), keys, args.out)
        p = ttest_ind(*found.values(), equal_var=False).pvalue
        cells = [f"{k} {np.mean(v):.1f} ± {np.std(v, ddof=1):.1f}" for k, v in found.items()]
        print(f"{name}: {', '.join(cells)}, p = {p:.3f}", flush=True)


if __name__ == "__main__":
    main()
