"""A long run: memory and file handles over 10,000 steps, and 500 points through the whole workflow.

    python benchmarks/long_run.py steps      # some ten minutes
    python benchmarks/long_run.py points     # some ten minutes; the trainer only copies one point

Prints lines of JSON.  The 500 points come from a command `mace-lora` that computes one point of
each step and copies it for the others; plan, report, choice, export, tracking are the real ones.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "workflow/resources/quickstart"
STEPS = 10_000

STUB = """#!{python}
import json, os, shutil, sys
from pathlib import Path
from lora.cli import main

step, args = sys.argv[1], sys.argv[2:]
done = Path("{home}/done")


def values(name):
    at = args.index("--" + name) + 1
    end = next((i for i in range(at, len(args)) if args[i].startswith("--")), len(args))
    return args[at:end]


def receipt(found):
    path = Path(values("receipt")[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def once(name, argv):
    if not (done / name).is_file():
        assert main(argv) == 0
        done.mkdir(exist_ok=True)
        (done / name).write_text("")


if step == "train":
    points = list(json.loads(values("points")[0]))
    first = Path("{home}/first/train")
    own = args[:args.index("--points")] + ["--points", json.dumps({{"first": {{"rank": 2}}}})]
    own += ["--threads", "1", "--out", str(first), "--work", str(first / "w")]
    once(step, [step, *own])
    record = json.loads((first / "first/train.json").read_text())
    for point in points:
        shutil.copytree(first / "first", Path(values("out")[0]) / point, dirs_exist_ok=True)
    receipt({{p: record | {{"point": p}} for p in points}})
elif step in ("merge", "evaluate"):
    outs = [Path(x) for x in values("out")]
    copied = Path("{home}/first") / step
    if outs[0].stem == "foundation":
        sys.exit(main(sys.argv[1:]))
    kinds = {{"merge": [".model"], "evaluate": [".json", ".parquet"]}}[step]
    if not copied.is_dir():
        assert main(sys.argv[1:]) == 0
        made = copied.with_name(f"{{step}}.{{os.getpid()}}")  # another job may do the same
        made.mkdir()
        for kind in kinds:
            shutil.copy(outs[0].with_suffix(kind), made / f"x{{kind}}")
        if step == "merge":
            shutil.copy(outs[0].with_name("merge.json"), made)
        try:
            made.rename(copied)
        except OSError:
            pass
    record = json.loads((copied / ("merge.json" if step == "merge" else "x.json")).read_text())
    for out in outs:
        out.parent.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            shutil.copy(copied / f"x{{kind}}", out.with_suffix(kind))
        if step == "merge":
            content = json.loads((copied / "merge.json").read_text())
            content.pop("seal")
            (out.parent / "merge.json").write_text(json.dumps(content))
    receipt({{out.stem: record | {{"point": out.stem}} for out in outs}})
else:
    sys.exit(main(sys.argv[1:]))
"""


def steps() -> None:
    """Resident memory and open files of a training, every 1,000 steps after the first 1,000."""
    from lora.data.structures import load_structures, read_structures, write_structures
    from lora.plan.settings import TrainSettings
    from lora.steps.train import Base, Run, TrainFiles, train_pack
    from lora.training.loop import Fit

    home = Path(tempfile.mkdtemp())
    data = read_structures(QUICKSTART / "malonaldehyde_300K.xyz")
    write_structures(home / "train.xyz", data[:50])
    write_structures(home / "valid.xyz", data[50:55])
    assert load_structures(home / "train.xyz")
    (home / "e0s.json").write_text('{"E0s": {"H": -949.47, "C": -752.87, "O": -571.91}}')
    seen: list[tuple[int, int, int]] = []
    count, step = 0, Fit.train_step

    def counted(self: Fit, *args: object) -> list:
        nonlocal count
        count += 1
        if count % 1000 == 0:
            lines = Path("/proc/self/status").read_text().splitlines()
            memory = next(int(x.split()[1]) for x in lines if x.startswith("VmRSS"))
            seen.append((count, memory // 1024, len(os.listdir("/proc/self/fd"))))
        return step(self, *args)

    Fit.train_step = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    settings = {"batch_size": 5, "max_num_epochs": STEPS // 10, "patience": STEPS}
    points = {home / f"p{r}": TrainSettings(rank=r, **settings) for r in (2, 4)}
    files = TrainFiles(home / "train.xyz", home / "valid.xyz", home / "e0s.json")
    train_pack(points, Base(QUICKSTART / "base.model"), files, home, Run(threads=1))
    seconds = round(time.perf_counter() - started)
    print(json.dumps({"steps": count, "seconds": seconds, "step, MB, files": seen}))
    shutil.rmtree(home)


def points(n: int = 500) -> None:
    """Wall time and peak memory of snakemake for n points, and what came out."""
    home = Path(tempfile.mkdtemp())
    stub = home / "bin/mace-lora"
    stub.parent.mkdir()
    stub.write_text(STUB.format(python=sys.executable, home=home))
    stub.chmod(0o755)
    config = {
        "results": str(home / "results"),
        "grid": {"rank": list(range(1, n // 10 + 1)), "alpha": list(range(1, 11))},
        "pack": {"size": 8},
        "baselines": ["foundation"],
        "checks": {"quick": [], "standard": [], "thorough": [], "holdout_file": None},
        "train": {"max_num_epochs": 2},
        "export": {"engines": ["ase"]},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    env = os.environ | {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = ["snakemake", "--cores", "2", "--configfile", str(home / "config.yaml")]
    for what in ("first", "nothing to do"):
        timed = ["/usr/bin/env", "python", "-c", TIMED, *command]
        done = subprocess.run(timed, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        print(json.dumps({"run": what} | json.loads(done.stdout.splitlines()[-1])))
    table = (home / "results/report/sweep.csv").read_text().splitlines()
    runs = json.loads((home / "results/track/runs.json").read_text())["runs"]
    print(json.dumps({"points": n, "rows of the table": len(table) - 1, "runs": len(runs)}))
    shutil.rmtree(home)


TIMED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
print(json.dumps({"seconds": round(time.perf_counter() - started), "MB": peak}))
sys.exit(code)
"""


if __name__ == "__main__":
    {"steps": steps, "points": points}[sys.argv[1]]()
