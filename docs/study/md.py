"""Does the chosen model hold together in MD, and would its bounds have said so?

    python docs/study/md.py run results      results_md.csv: ten runs at 600 K, 50 ps each
    python docs/study/md.py table results    what became of them

Ten runs of the exported model of a results folder start from structures of the test set, each with
velocities and noise of its own.  A run ends where it fails as in the check `heating`: an atom comes
off, atoms collapse, or it explodes.  A frame of each 10 fs is kept with the calibrated bound of its
largest force error.  Units: eV, Å, eV/Å.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

SEED, RUNS = 20261130, 10
TEMPERATURE, TIMESTEP, EVERY, STEPS = 600, 0.5, 20, 100_000  # K, fs, steps a frame, steps


def run(results: str) -> None:
    """Run the dynamics, and look at the bounds of the frames."""
    from lora.calculators.potential import Potential
    from lora.data.structures import load_structures
    from lora.mace.device import set_threads

    set_threads(1)
    (model_file,) = Path(results).glob("export/*/*.model")
    sets: dict[str, list[Atoms]] = {}
    for atoms in load_structures(Path(results) / "data/test.xyz"):
        sets.setdefault(atoms.info.get("test_set", "test"), []).append(atoms)
    starts = sets["test"][:: len(sets["test"]) // RUNS][:RUNS]
    numbers = sorted({int(z) for atoms in starts for z in atoms.numbers})

    found = _dynamics(Potential(model_file, numbers), starts)
    bounds = _bounds(model_file)
    rows = []
    for i, (places, end) in enumerate(found):
        frames = [Atoms(starts[i].numbers, positions=x) for x in places]
        for k, bound in enumerate(bounds(frames)):
            rows.append((i, (k + 1) * EVERY * TIMESTEP / 1000, bound, ""))
        rows.append((i, rows[-1][1] if frames else 0.0, np.nan, end or "held"))
    for name, frames in sets.items():
        rows += [(name, np.nan, bound, "") for bound in bounds(frames)]
    pd.DataFrame(rows, columns=["run", "ps", "bound", "end"]).to_csv(
        f"{results}_md.csv", index=False
    )


class Apart(Calculator):
    """Forces of molecules that are one system for the dynamics and never see each other."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential, molecules: list[Atoms]) -> None:
        super().__init__()
        self.potential, self.molecules = potential, molecules

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        """Fill `results` for the system."""
        super().calculate(atoms, properties, system_changes)
        for molecule, places in zip(self.molecules, _split(atoms, self.molecules), strict=True):
            molecule.positions = places
        energies, forces = self.potential(self.molecules)
        self.results = {"energy": float(energies.sum()), "forces": np.concatenate(forces)}


def _split(system: Atoms, molecules: list[Atoms]) -> list[np.ndarray]:
    """Return the positions of each molecule of the system."""
    return np.split(system.positions.copy(), np.cumsum([len(x) for x in molecules])[:-1])


def _dynamics(potential, starts: list[Atoms]) -> list[tuple[list[np.ndarray], str]]:
    """Return the positions of the frames of each run, and how it failed; "" where it did not."""
    from lora.checks.dynamics import failure_of, fragments

    rng = np.random.default_rng(SEED)
    molecules = [Atoms(x.numbers, positions=x.positions) for x in starts]
    pieces = [fragments(x) for x in molecules]
    system = sum(molecules[1:], start=molecules[0].copy())
    system.calc = Apart(potential, molecules)
    MaxwellBoltzmannDistribution(system, temperature_K=TEMPERATURE, rng=rng)
    how = {"temperature_K": TEMPERATURE, "fixcm": False, "friction": 0.01 / units.fs, "rng": rng}
    dynamics = Langevin(system, TIMESTEP * units.fs, **how)
    places: list[list[np.ndarray]] = [[] for _ in starts]
    ends = [""] * len(starts)
    for done in range(EVERY, STEPS + 1, EVERY):
        dynamics.run(EVERY)
        forces, velocities = system.get_forces(), system.get_velocities()
        cuts = np.cumsum([len(x) for x in starts])[:-1]
        each = zip(
            _split(system, starts), *(np.split(x, cuts) for x in (forces, velocities)), strict=True
        )
        for i, (x, f, v) in enumerate(each):
            if ends[i]:
                continue
            places[i].append(x)
            frame = Atoms(starts[i].numbers, positions=x, velocities=v)
            frame.calc = SinglePointCalculator(frame, forces=f)
            if failure := failure_of(frame, pieces[i], TEMPERATURE):
                ends[i] = failure
                print(f"run {i}: {failure} after {done * TIMESTEP / 1000:g} ps", flush=True)
        if done % 1000 == 0:
            print(f"{done * TIMESTEP / 1000:g} ps", flush=True)
    return list(zip(places, ends, strict=True))


def _bounds(model_file: Path):
    """Return a function: of structures the calibrated bounds of their largest force errors."""
    from lora.data.calibration import Calibration
    from lora.mace.foundation import load_foundation
    from lora.mace.graphs import graphs
    from lora.mace.last_layer import features

    calibration = Calibration.read(model_file.with_suffix(".trust.json"))
    model = load_foundation(model_file)

    def of(structures: list[Atoms]) -> list[float]:
        found = []
        for start in range(0, len(structures), 1000):
            part = structures[start : start + 1000]
            scores = [calibration.rigidity.scores(x) for x in features(model, graphs(part, model))]
            ends = np.cumsum([len(atoms) for atoms in part])[:-1]
            found += [calibration.largest(x) for x in np.split(np.concatenate(scores), ends)]
        return found

    return of


def table(results: str) -> None:
    """Print what became of the runs, and what a guard at the largest bound of a set would do."""
    rows = pd.read_csv(f"{results}_md.csv")
    moving = rows[rows.ps.notna() & rows.bound.notna()]
    sets = rows[rows.ps.isna()].groupby("run").bound
    print("| run | end | ps | bound: median | 99 % | largest |\n|---|---|---|---|---|---|")
    for name, end in rows[rows.end.notna()].set_index("run").iterrows():
        own = moving[moving.run == name].bound
        cells = " | ".join(f"{x:.2f}" for x in (own.median(), own.quantile(0.99), own.max()))
        print(f"| {name} | {end.end} | {end.ps:g} | {cells} |")
    ends = rows[rows.end.notna() & (rows.end != "held")]
    failed = ends.set_index("run").ps
    for name, limit in sets.max().items():
        beyond = moving[moving.bound > limit]
        first = beyond.groupby("run").ps.min()
        silent = [x for x in failed.index if not first.get(x, np.inf) < failed[x]]
        print(
            f"limit {limit:.2f} eV/Å, the largest of {name}: {len(beyond) / len(moving):.2%} of "
            f"the frames beyond it, in {len(first)} runs, first after {first.min():.3g} ps; of "
            f"{len(failed)} runs that failed {len(silent)} were not beyond it before"
        )


if __name__ == "__main__":
    {"run": run, "table": table}[sys.argv[1]](*sys.argv[2:])
