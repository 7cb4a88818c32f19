"""Ours and mace_run_train on the same data at equal settings: LoRA and full fine-tuning.

    python benchmarks/upstream.py --out out acac=acac.xyz:energy:forces aspirin=aspirin.xyz ...

Each dataset is split at random (100 structures to train on, 50 to validate); the E0s are estimated
once and given to both.  On the quickstart's base, from three seeds: LoRA of rank 8 and alpha 32 and
full fine-tuning by mace_run_train, and by us with each start, schedule and rate.  Moving average
and clipping are those of `RATES` for both, and so is mace_run_train's rate; batches of 5, 15
epochs, float64.

Goes on where it was stopped.  Prints the lowest force RMSE on the validation set among the epochs
(meV/Å), mean ± standard deviation over the seeds, and Welch's p against mace_run_train.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.io import read
from scipy.stats import ttest_ind

from lora.files.sealed import read_json

ROOT = Path(__file__).parents[1]
BASE = ROOT / "workflow/resources/quickstart/base.model"
SEEDS = (1, 2, 3)
N_TRAIN, N_VALID = 100, 50
SETTINGS = {"energy_weight": 1.0, "forces_weight": 1.0, "batch_size": 5, "valid_batch_size": 50}
SETTINGS |= {"max_num_epochs": 15, "default_dtype": "float64", "scheduler_patience": 10}
RATES = {
    "lora": {"lr": 0.01, "ema_decay": 0.99, "clip_grad": 10.0},
    "full": {"lr": 0.01, "ema_decay": 0.99, "clip_grad": 10.0},
}
LORA = {"rank": 8, "alpha": 32.0}
SCHEDULES = {
    "plateau": {"scheduler": "ReduceLROnPlateau"},
    "cosine": {"scheduler": "CosineAnnealingLR"},
    "exponential": {"scheduler": "ExponentialLR", "lr_scheduler_gamma": 0.8},
}
STARTS = ("documented", "upstream")


def variants(method: str, schedules: list[str], rates: list[float]) -> dict[str, dict]:
    """What we train of a method, by name."""
    plain = {
        name if rate == RATES[method]["lr"] else f"{name} lr {rate:g}": SCHEDULES[name]
        | {"lr": rate}
        for name in schedules
        for rate in rates
    }
    if method == "full":
        return plain
    return {
        f"{start}, {name}": LORA | {"start": start} | own
        for start in STARTS
        for name, own in plain.items()
    }


def command(*words: object) -> None:
    """Run a step of mace-lora."""
    subprocess.run([sys.executable, "-m", "lora.cli", *map(str, words)], check=True)


def prepare(data: Path, keys: list[str], folder: Path) -> None:
    """Split a dataset and estimate its E0s."""
    n = len(read(data, ":"))
    test = max(0, 1 - (N_TRAIN + N_VALID) / n)
    shares = ["--valid_fraction", N_VALID / n, "--test_fraction", test]
    given = ["--energy_key", keys[0], "--forces_key", keys[1]] if keys else []
    command("split", data, "--out", folder / "data", *shares, *given)
    command("e0s", folder / "data/train.xyz", "--foundation", BASE, "--out", folder / "e0s.json")


def ours(method: str, own_settings: dict[str, dict], folder: Path) -> dict[str, list[float]]:
    """Train our variants of a method; return the lowest errors, one a seed."""
    points = {
        f"{method}/{name}/{seed}": SETTINGS | RATES[method] | own | {"method": method, "seed": seed}
        for name, own in own_settings.items()
        for seed in SEEDS
    }
    packs = [points] if method == "lora" else [{name: point} for name, point in points.items()]
    sets = [folder / "data/train.xyz", folder / "data/valid.xyz"]
    given = ["--foundation", BASE, "--e0s_file", folder / "e0s.json", "--out", folder]
    for i, pack in enumerate(packs):
        if not all((folder / name / "train.json").is_file() for name in pack):
            work = ["--work", folder / f"work/{method}{i}"]
            command("train", *sets, *given, *work, "--points", json.dumps(pack))
    return {
        name: [lowest_of_ours(folder / f"{method}/{name}/{seed}") for seed in SEEDS]
        for name in own_settings
    }


def lowest_of_ours(folder: Path) -> float:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return min(float(x["valid_rmse_f_mev_per_a"]) for x in lines)


def theirs(method: str, folder: Path) -> list[float]:
    """Train by mace_run_train; return the lowest errors, one a seed."""
    e0s = read_json(folder / "e0s.json")["E0s"]
    flags = SETTINGS | RATES[method] | {"weight_decay": 0.0, "scheduler": "ReduceLROnPlateau"}
    flags |= {"foundation_model": BASE, "multiheads_finetuning": False, "device": "cpu"}
    flags |= {"E0s": str({atomic_numbers[x]: value for x, value in e0s.items()})}
    flags |= {f"{x}_file": (folder / f"data/{x}.xyz").absolute() for x in ("train", "valid")}
    if method == "lora":
        flags |= {"lora": True} | {f"lora_{key}": value for key, value in LORA.items()}
    found = []
    for seed in SEEDS:
        place = folder / "mace_run_train" / method / str(seed)
        if not (place / "done").is_file():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            words = [f"--{key}={value}" for key, value in (flags | {"seed": seed}).items()]
            with (place / "printed").open("w") as printed:
                program = ["mace_run_train", "--name=a", *words, "--ema"]
                subprocess.run(program, cwd=place, check=True, stdout=printed, stderr=printed)
            (place / "done").touch()
        found.append(lowest_of_theirs(place))
    return found


def lowest_of_theirs(folder: Path) -> float:
    (file,) = (folder / "results").glob("*_train.txt")
    lines = map(json.loads, file.read_text().splitlines())
    trained = (x for x in lines if x.get("mode") == "eval" and x["epoch"] is not None)
    return min(1e3 * float(x["rmse_f"]) for x in trained)


def cell(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def main() -> None:
    """Measure every dataset that is named, and print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", help="NAME=FILE or NAME=FILE:ENERGY_KEY:FORCES_KEY")
    parser.add_argument("--methods", nargs="+", default=["lora", "full"], choices=[*RATES])
    parser.add_argument("--schedules", nargs="+", default=[*SCHEDULES], choices=[*SCHEDULES])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01], help="of ours")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for one in args.datasets:
        name, _, rest = one.partition("=")
        file, *keys = rest.split(":")
        folder = args.out / name
        if not (folder / "e0s.json").is_file():
            prepare(Path(file), keys, folder)
        for method in args.methods:
            upstream = theirs(method, folder)
            print(f"{name} {method} | mace_run_train | {cell(upstream)} |", flush=True)
            own = variants(method, args.schedules, args.rates)
            for variant, found in ours(method, own, folder).items():
                p = ttest_ind(found, upstream, equal_var=False).pvalue
                print(f"{name} {method} | {variant} | {cell(found)} | p {p:.2f}", flush=True)


if __name__ == "__main__":
    main()
