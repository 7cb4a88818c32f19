"""Do calibrated bounds of force errors hold?  For every LoRA point of a finished sweep.

    snakemake --configfile config/config.yaml benchmarks/trust.yaml    # three seeds
    python benchmarks/trust.py results_trust
    python benchmarks/trust.py results_trust --steps 500               # and what they cost in MD

Prints a row a point and set, and one for the committee of all LoRA points: the share of force
components and of structures within their bounds, with 95 % intervals, and the median bound.  With
--steps also the time of a step of MD with MACE's calculator and with the bounds, which take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from lora.data.calibration import Trial
from lora.data.structures import load_structures
from lora.files.sealed import Receipt
from lora.mace.calculator import mace_calculator
from lora.plan.sweep import Sweep
from lora.selection.results import with_model
from lora.steps.call import Call, Given
from lora.steps.trust import TrustFiles, trust

TURNS = 5


def rows(sweep: Sweep, out: Path) -> Iterator[dict[str, Any]]:
    """Yield a row a point or committee, and set; write the calibrations of points."""
    job = sweep.jobs["trust"]
    call = Call(sweep, job, Given(), Receipt(out / "receipt.json"))
    points = with_model(sweep, "trust", [x for x, p in sweep.points.items() if p.is_lora])
    call.at_hand(points)
    members = with_model(sweep, "trust", job.settings["committee"])
    for i, point in enumerate(points):
        files = TrustFiles.of(sweep.layout, point, members if i == 0 else [])
        files = replace(files, out=out / f"{point}.json")
        found = trust(point, files, job.settings["coverage"])
        for source, values in found["sources"].items():
            for name, one in Trial.from_dict(values).sets.items():
                yield {
                    "point": point if source == "features" else f"committee of {len(members)}",
                    "set": name,
                    "components": one.components.text(),
                    "structures": one.structures.text(),
                    "median bound (meV/Å)": f"{1e3 * one.median:.1f}",
                    "largest of a structure (eV/Å)": f"{one.largest:.2f}",
                    "an uncertainty": "yes" if values["sets"][name]["uncertainty"] else "no",
                }


def seconds(atoms: Atoms, steps: int) -> float:
    """Return the time of a step of MD."""
    moving = atoms.copy()
    moving.calc = atoms.calc
    run = VelocityVerlet(moving, 0.5 * units.fs)
    run.run(5)
    started = time.perf_counter()
    run.run(steps)
    return (time.perf_counter() - started) / steps


def cost(sweep: Sweep, point: str, calibration: Path, steps: int) -> str:
    """Return the times of a step without and with bounds: medians of turns."""
    from lora.calculators.watched import Watched

    model, (atoms, *_) = sweep.layout.model(point), load_structures(sweep.layout.split("valid"))
    ways = {
        "MACE's calculator": mace_calculator(model)[0],
        "with bounds": Watched(model, calibration),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, atoms.calc in ways.items():
            times[name].append(seconds(atoms, steps))
    plain, bounded = (1e3 * median(x) for x in times.values())
    return (
        f"a step of MD: {plain:.2f} ms, with bounds {bounded:.2f} ms ({bounded / plain - 1:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="the results folder of a finished sweep")
    parser.add_argument("--steps", type=int, default=0, help="of MD, to measure what bounds cost")
    options = parser.parse_args()
    sweep = Sweep.load(options.results / "plan.json")
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame(rows(sweep, Path(folder)))
        print(table.to_string(index=False))
        if options.steps:
            point = table["point"].iloc[0]
            print(cost(sweep, point, Path(folder) / f"{point}.json", options.steps))


if __name__ == "__main__":
    main()
