"""What keep saves and costs, for several weights of made structures and of the penalty.

    python docs/study/keep.py run       a sweep without keep, and one for each row of `VARIANTS`
    python docs/study/keep.py tables    a table of all that have run

The quickstart's model and data, docs/study/keep.yaml over its config; results in study_keep/.  With
the folder of a molecule of rMD17 after them, rmd17/ethanol for example, with train.xyz, valid.xyz
and test.xyz, its first 100 training structures are the data; results in study_keep_ethanol/.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lora.plan.sweep import Sweep
from lora.selection.table import read_table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fair_table"))
N, EPOCHS = 100, 30  # of rMD17
VARIANTS = {  # {name: the section keep}
    "w0.01": {"num_samples": 200, "weight": 0.01},
    "w0.001": {"num_samples": 200, "weight": 0.001},
    "p100": {"num_samples": 200, "weight": 0, "penalty": 100},
    "w0.1": {"num_samples": 200, "weight": 0.1},
    "p10": {"num_samples": 200, "weight": 0, "penalty": 10},
    "w1": {"num_samples": 200, "weight": 1},
}
MOLECULE = ("w0.01",)  # what a molecule of rMD17 is tried with


@dataclass(frozen=True)
class Data:
    """What the sweeps train on.

    Attributes:
        home: The folder of their results.
        sets: The test sets.
        section: What differs from the quickstart's config and docs/study/keep.yaml.
        variants: The rows of `VARIANTS` that are run.
    """

    home: Path = Path("study_keep")
    sets: tuple[str, ...] = ("test", "600K", "path")
    section: dict[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = tuple(VARIANTS)

    @classmethod
    def of(cls, folder: str = "") -> "Data":
        """Return the quickstart's, or those of a molecule of rMD17."""
        if not folder:
            return cls()
        from cells import data_of, holdout_of, prepare

        molecule = Path(folder).name
        home = Path(f"study_keep_{molecule}")
        prepare(Path(folder).parent, home, molecule, N)
        files = {name: str(path) for name, path in data_of(home, molecule, N).items()}
        given = {"method": "given", "valid_file": files["valid"], "test_file": files["test"]}
        section = {
            "data": {"file": files["train"], "test_sets": []},
            "split": given,
            "checks": {"standard": [], "thorough": [], "holdout_file": str(holdout_of(home))},
            "export": {"engines": ["ase"], "data_licence": "CC0-1.0"},
            "train": {"max_num_epochs": EPOCHS, "patience": EPOCHS},
        }
        return cls(home, ("test",), section, MOLECULE)


def run(data: Data) -> None:
    """Run the sweeps, one after the other; what is done already takes seconds."""
    data.home.mkdir(exist_ok=True)
    for name in ("plain", *data.variants):
        own = data.section | {"results": str(data.home / name)}
        if name in VARIANTS:
            own |= {"grid": {"keep": [True]}, "keep": VARIANTS[name]}
        file = data.home / f"{name}.yaml"
        file.write_text(yaml.safe_dump(own))
        files = ["config/config.yaml", str(HERE / "keep.yaml"), str(file)]
        subprocess.run(["snakemake", "--cores", "all", "--configfile", *files], check=True)


def tables(data: Data) -> None:
    """Print the force RMSE (meV/Å) and the forgetting of each sweep, mean ± spread over seeds."""
    columns = [*data.sets, "forgetting", "training (s)"]
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in ("plain", *data.variants):
        plan = data.home / name / "plan.json"
        if not plan.is_file():
            continue
        sweep = Sweep.load(plan)
        table = read_table(sweep)
        points = table[table["method"] != "foundation"]
        of_each = points.groupby("test_set")["rmse_f_mev_per_a"]
        errors = [of_each.get_group(x) for x in data.sets]
        checks = pd.read_csv(sweep.layout.report("checks.csv"))
        forgot = checks[(checks["check"] == "forgetting") & checks["point"].isin(points["point"])]
        seconds = points.drop_duplicates("point")["train_seconds"]
        cells = [f"{x.mean():.1f} ± {x.std():.1f}" for x in (*errors, forgot["compared"], seconds)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    {"run": run, "tables": tables}[sys.argv[1]](Data.of(*sys.argv[2:]))
