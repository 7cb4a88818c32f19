"""Close the loop on the quickstart: frames of a 600 K MD, chosen or random, labelled and added.

    python docs/study/loop.py collect    loop/pool.xyz, loop/random.xyz: frames of the MD
    python docs/study/loop.py add        training sets and configs of the arms, from labelled frames
    python docs/study/loop.py table      the errors of all arms on the sets of the quickstart

What stands between them is in docs/loop.md.  Units: eV, Å, eV/Å.
"""

import sys
from pathlib import Path

import ase.io
import numpy as np
import yaml
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

ROOT = Path(__file__).parents[2]
OUT, RESULTS = Path("loop"), Path("results")
SEED, TEMPERATURE, FRAMES, EVERY = 20261129, 600, 400, 40  # K; a frame every 40 steps of 0.5 fs
POINT = "lora_r8_a32_s3"  # the one that the quickstart chooses
ARMS = {"chosen_20": ("chosen", 20), "random_20": ("random", 20), "random_40": ("random", 40)}
SETS = ("valid", "test", "600K", "path")


def collect() -> None:
    """Run MD with the LoRA points as a committee; keep frames with the spread of their forces."""
    from lora.calculators.committee import Committee

    adapters = sorted(RESULTS.glob("train/lora_*_s3/adapter"))
    rng = np.random.default_rng(SEED)
    frames = ase.io.read(RESULTS / "data/train.xyz", index=":")
    atoms = next(x for x in frames if len(x) > 1)
    atoms = Atoms(atoms.numbers, positions=atoms.positions)
    atoms.calc = Committee(RESULTS / "foundation/foundation.model", adapters)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * TEMPERATURE, rng=rng)
    how = {"temperature_K": TEMPERATURE, "friction": 0.02 / units.fs, "rng": rng}
    dynamics = Langevin(atoms, 0.5 * units.fs, **how)
    dynamics.run(1000)
    pool = []
    for _ in range(FRAMES):
        dynamics.run(EVERY)
        spread = float(atoms.calc.results["forces_spread"].max())
        pool.append(Atoms(atoms.numbers, positions=atoms.positions, info={"spread": spread}))
    OUT.mkdir(exist_ok=True)
    ase.io.write(OUT / "pool.xyz", pool, format="extxyz")
    drawn = rng.permutation(FRAMES)[: max(n for _, n in ARMS.values())]
    ase.io.write(OUT / "random.xyz", [pool[i] for i in drawn], format="extxyz")


def add() -> None:
    """Write the training set and the config of each arm."""
    old = ase.io.read(RESULTS / "data/train.xyz", index=":")
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    own, tested = {}, ase.io.read(RESULTS / "data/test.xyz", index=":")
    for name in SETS[1:]:  # files of the quickstart are refused for other data than its own
        own[name] = str(OUT / f"{name}.xyz")
        frames = [x for x in tested if x.info.get("test_set") == name]
        for atoms in frames:
            del atoms.info["test_set"]
        ase.io.write(own[name], frames, format="extxyz")
    given = {"valid_file": str(RESULTS / "data/valid.xyz"), "test_file": own.pop("test")}
    others = [{"name": name, "file": file} for name, file in own.items()]
    start_from = str(RESULTS / "train" / POINT / "adapter")
    for name, (kind, n) in ARMS.items():
        new = ase.io.read(OUT / f"{kind}_labelled.xyz", index=f":{n}")
        ase.io.write(OUT / f"{name}.xyz", [*old, *new], format="extxyz")
        grid = {"rank": [8], "alpha": [32], "seed": [1, 2, 3], "start": ["documented", "adapter"]}
        config = raw | {
            "results": f"loop_{name}",
            "data": raw["data"] | {"file": str(OUT / f"{name}.xyz"), "test_sets": others},
            "split": {"method": "given", **given},
            "grid": grid,
            "train": raw["train"] | {"start_from": start_from},
            "baselines": ["foundation"],
            "checks": {"standard": [], "thorough": []},
            "export": {"engines": []},
        }
        (OUT / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def table() -> None:
    """Print the force RMSE (meV/Å) of each arm and start, mean and deviation over the seeds."""
    from lora.plan.sweep import Sweep
    from lora.selection.table import read_table

    print(f"| | {' | '.join(SETS)} |\n|---|{'---|' * len(SETS)}")
    for name in ARMS:
        found = read_table(Sweep.load(f"loop_{name}/plan.json"))
        for group, part in found.groupby("group", sort=False):
            errors = part.groupby("test_set")["rmse_f_mev_per_a"]
            cells = [f"{errors.mean()[x]:.1f} ± {errors.std()[x]:.1f}" for x in SETS]
            print(f"| {name}, {group} | {' | '.join(cells)} |")


if __name__ == "__main__":
    {"collect": collect, "add": add, "table": table}[sys.argv[1]]()
