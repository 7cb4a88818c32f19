"""What keep saves and costs, for several weights of made structures and of the penalty.

    python docs/study/keep.py run       a sweep without keep, and one for each row of `VARIANTS`
    python docs/study/keep.py tables    a table of all that have run

The quickstart's model and data, docs/study/keep.yaml over its config; results in study_keep/.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from lora.plan.sweep import Sweep
from lora.selection.table import read_table

HERE, HOME = Path(__file__).parent, Path("study_keep")
SETS = ["test", "600K", "path"]
VARIANTS = {  # {name: the section keep}
    "w0.01": {"num_samples": 200, "weight": 0.01},
    "w0.001": {"num_samples": 200, "weight": 0.001},
    "p100": {"num_samples": 200, "weight": 0, "penalty": 100},
    "w0.1": {"num_samples": 200, "weight": 0.1},
    "p10": {"num_samples": 200, "weight": 0, "penalty": 10},
    "w1": {"num_samples": 200, "weight": 1},
}


def run() -> None:
    """Run the sweeps, one after the other; what is done already takes seconds."""
    base = yaml.safe_load((HERE / "keep.yaml").read_text())
    HOME.mkdir(exist_ok=True)
    for name, section in {"plain": None, **VARIANTS}.items():
        own = base | {"results": str(HOME / name)}
        if section:
            own |= {"grid": base["grid"] | {"keep": [True]}, "keep": section}
        file = HOME / f"{name}.yaml"
        file.write_text(yaml.safe_dump(own))
        files = ["config/config.yaml", str(file)]
        subprocess.run(["snakemake", "--cores", "2", "--configfile", *files], check=True)


def tables() -> None:
    """Print the force RMSE (meV/Å) and the forgetting of each sweep, mean ± spread over seeds."""
    print(f"| | {' | '.join(SETS)} | forgetting | training (s) |\n|---|{'---|' * (len(SETS) + 2)}")
    for name in ("plain", *VARIANTS):
        plan = HOME / name / "plan.json"
        if not plan.is_file():
            continue
        sweep = Sweep.load(plan)
        table = read_table(sweep)
        points = table[table["method"] != "foundation"]
        errors = [points.loc[points["test_set"] == s, "rmse_f_mev_per_a"] for s in SETS]
        checks = pd.read_csv(sweep.layout.report("checks.csv"))
        forgot = checks[(checks["check"] == "forgetting") & checks["point"].isin(points["point"])]
        seconds = points.drop_duplicates("point")["train_seconds"]
        cells = [f"{x.mean():.1f} ± {x.std():.1f}" for x in (*errors, forgot["compared"], seconds)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    {"run": run, "tables": tables}[sys.argv[1]]()
