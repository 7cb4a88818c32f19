"""The grid of the quickstart four times: our workflow, two races, and a shell loop.

    python benchmarks/sweep.py                 # all 8 points, about half an hour on 2 cores
    python benchmarks/sweep.py --ranks 4 --alphas 8 32 --epochs 4

One race trains every rank, the other cuts the highest to the lower ones (`race: {ranks: cut}`).
The loop is over mace_run_train --lora.  Same data, split, epochs, batch size, dtype, learning rate
and loss; all may use all cores: the loop gives them to one training after the other, as a shell
loop does, the workflow shares them out as it likes.  Prints one line of JSON: wall seconds in all
and of the parts, the shares of the loop's, peak memory, and the errors of all on the test set
(meV/atom, meV/Å), measured by one program.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import yaml

from lora.files.sealed import read_json
from lora.steps.evaluate import evaluate

ROOT = Path(__file__).parents[1]
BASE = ROOT / "workflow/resources/quickstart/base.model"
RACES = {"ours": False, "race": True, "race_cut": {"ranks": "cut"}}  # by name
BATCH, VALID_BATCH, SEED, DTYPE = 5, 32, 3, "float64"


def ours(args: argparse.Namespace, work: Path, name: str) -> dict:
    """The workflow, baselines left out, from the raw data to the report."""
    results = work / name
    overlay = {
        "results": str(results),
        "grid": {"rank": args.ranks, "alpha": args.alphas, "seed": [SEED]},
        "race": RACES[name],
        "baselines": [],
        "checks": {"quick": [], "standard": [], "thorough": []},  # the loop makes none
        "train": {
            "max_num_epochs": args.epochs,
            "patience": args.epochs,
            "device": args.device,
        },
    }
    (work / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    files = ["config/config.yaml", str(work / "overlay.yaml")]
    command = ["snakemake", "--cores", str(args.cores), "--configfile", *files]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wall = time.perf_counter() - started
    trained = receipts(results / "train/packs")
    evaluated = receipts(results / "evaluate/packs")
    steps = sum(point["seconds"] for point in trained.values())
    evaluation = sum(point["seconds"] for point in evaluated.values())
    rest = wall - (steps + evaluation) / args.cores
    sets = {name: point["sets"]["test"] for name, point in evaluated.items()}
    return {
        "wall": round(wall, 1),
        "point_epochs": sum(point["epochs"] for point in trained.values()),
        "training_steps": round(steps, 1),
        "evaluation": round(evaluation, 1),
        "all_else_wall_a_point": round(rest / len(trained), 2),
        "jobs_seconds": jobs(results),
        "points_in_a_step": sorted({point["pack_size"] for point in trained.values()}),
        "peak_memory_mb": max(point["peak_memory_mb"] for point in trained.values()),
        "test": {name: errors(sets[name]) for name in sorted(sets)},
    }


def receipts(folder: Path) -> dict[str, dict]:
    """Of each point; of one that went through the rungs of a race, that of its last part."""
    every = [x for path in folder.glob("*.json") for x in read_json(path).items()]
    return dict(sorted(every, key=lambda item: item[1].get("epochs", 0)))


def jobs(results: Path) -> dict[str, float]:
    """Wall seconds of all jobs of each rule, from snakemake's own records."""
    seconds: dict[str, float] = {}
    seen = set()
    for path in (ROOT / ".snakemake/metadata").rglob("*"):
        if not path.is_file():
            continue
        record = json.loads(path.read_text())
        job = json.dumps(record.get("log", ""))  # a record an output, a log a job
        if str(results) in job and job not in seen:
            seen.add(job)
            spent = record["endtime"] - record["starttime"]
            seconds[record["rule"]] = round(seconds.get(record["rule"], 0.0) + spent, 1)
    return seconds


def theirs(args: argparse.Namespace, work: Path) -> dict:
    """mace_run_train --lora for one point after the other, on the split that ours made."""
    data, parts, models = work / "ours/data", {"before": 0.0, "training": 0.0, "after": 0.0}, {}
    wall = peak = 0.0
    for rank in args.ranks:
        for alpha in args.alphas:
            name = f"lora_r{rank}_a{alpha:g}_s{SEED}"
            folder = work / "theirs" / name
            folder.mkdir(parents=True)
            started = time.time()
            with (folder / "printed").open("w") as printed:
                process = subprocess.Popen(
                    command(args, name, rank, alpha, data),
                    cwd=folder,
                    stdout=printed,
                    stderr=printed,
                )
                _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit((folder / "printed").read_text()[-3000:])
            peak = max(peak, used.ru_maxrss / 1024)
            ended = time.time()
            wall += ended - started
            first, last = epochs(next((folder / "logs").glob("*.log")).read_text())
            parts["before"] += first - started
            parts["training"] += last - first
            parts["after"] += ended - last
            models[folder / "errors.json"] = folder / f"{name}.model"
    test = {"valid_file": data / "valid.xyz", "test_file": data / "test.xyz"}
    found = evaluate(models, **test, batch_size=VALID_BATCH)
    names = [path.parent.name for path in models]
    return {
        "wall": round(wall, 1),
        "parts": {part: round(seconds, 1) for part, seconds in parts.items()},
        "peak_memory_mb": int(peak),
        "test": {n: errors(x["sets"]["test"]) for n, x in zip(names, found, strict=True)},
    }


def command(args: argparse.Namespace, name: str, rank: int, alpha: float, data: Path) -> list[str]:
    flags = {
        "name": name,
        "foundation_model": BASE,
        "train_file": data / "train.xyz",
        "valid_file": data / "valid.xyz",
        "test_file": data / "test.xyz",
        "lora": True,
        "lora_rank": rank,
        "lora_alpha": alpha,
        "E0s": "estimated",
        "energy_weight": 1.0,
        "forces_weight": 1.0,
        "lr": 0.01,
        "weight_decay": 0.0,
        "ema_decay": 0.99,
        "clip_grad": 10.0,
        "batch_size": BATCH,
        "valid_batch_size": VALID_BATCH,
        "max_num_epochs": args.epochs,
        "default_dtype": DTYPE,
        "device": args.device,
        "seed": SEED,
        "multiheads_finetuning": False,
    }
    words = [f"--{key}={value}" for key, value in flags.items()]
    return ["mace_run_train", *words, "--ema", "--amsgrad"]


def epochs(log: str) -> tuple[float, float]:
    """When the first epoch started and the last one ended (s since 1970), from upstream's log."""
    stamps = re.findall(
        r"^(\S+ \S+) INFO: (Started training|Initial|Epoch|Training complete)", log, re.M
    )
    times = {what: datetime.fromisoformat(stamp).timestamp() for stamp, what in stamps}
    first = min(times[what] for what in ("Started training", "Initial") if what in times)
    return first, max(times.values())


def errors(numbers: dict) -> list[float]:
    return [round(numbers[key], 3) for key in ("rmse_e_mev_per_atom", "rmse_f_mev_per_a")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--alphas", type=float, nargs="+", default=[8, 32])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="of all trainings: cpu or cuda")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.alphas = [int(a) if a == int(a) else a for a in args.alphas]
    os.environ["OMP_NUM_THREADS"] = str(args.cores)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        races = [x for x in RACES if x != "race_cut" or len(args.ranks) > 1]
        found = {name: ours(args, Path(folder), name) for name in races}
        loop = theirs(args, Path(folder))
    points = len(args.ranks) * len(args.alphas)
    result = {"points": points, "epochs": args.epochs, "cores": args.cores}
    shares = {name: round(x["wall"] / loop["wall"], 3) for name, x in found.items()}
    print(json.dumps(result | {"share_of_the_loop": shares, "loop": loop, **found}))


if __name__ == "__main__":
    main()
