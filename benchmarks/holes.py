"""The search for holes against what it was: 100 random structures, each relaxed for 100 steps.

    python benchmarks/holes.py                       # the quickstart's foundation model, minutes
    python benchmarks/holes.py --noise 0.1 --pack 4  # four worse models in one pass

Both search one after the other in one process.  Prints structures asked for, seconds, and what
fell, and their ratios.  `--noise` multiplies each weight by 1 + noise x N(0, 1), which makes holes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from lora.calculators.potential import Potential, Together
from lora.catalogue.checks import BY_NAME
from lora.checks.base import Sample
from lora.checks.dynamics import TOUCHING, closest
from lora.checks.holes import DEEP, throw
from lora.checks.relaxation import relax
from lora.checks.run import make_sample, measure
from lora.mace.device import set_threads
from lora.mace.foundation import load_foundation

ROOT = Path(__file__).parents[1]
BASE = ROOT / "workflow/resources/quickstart/base.model"
DATA = ROOT / "workflow/resources/quickstart/malonaldehyde_300K.xyz"
Found = tuple[int, int]  # structures that fell, of how many


def before(potential: Potential, sample: Sample) -> Found:
    """Throw 100 structures and relax each for 100 steps."""
    rng = np.random.default_rng(sample.seed)
    kinds = [sample.structures[i % len(sample.structures)] for i in range(100)]
    thrown = [throw(atoms, rng) for atoms in kinds]
    floor, _ = potential(sample.structures)
    lowest = [floor[i % len(floor)] - DEEP * len(atoms) for i, atoms in enumerate(kinds)]
    deep = ~(relax(potential, thrown, 100) >= np.array(lowest))
    return int((deep | np.array([closest(x) < TOUCHING for x in thrown])).sum()), len(thrown)


def now(potential: Potential, sample: Sample) -> Found:
    """Search with the default settings."""
    _, detail = measure(BY_NAME["holes"], potential, sample)
    return detail["fell"], detail["structures"]


def noisy(noise: float, seed: int, folder: Path) -> Path:
    """Write the model with noise on its weights."""
    if not noise:
        return BASE
    model = load_foundation(BASE)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + noise * torch.randn_like(parameter))
    torch.save(model, folder / f"{seed}.model")
    return folder / f"{seed}.model"


def timed(search: Callable[[Potential, Sample], Found], models: list[Path], sample: Sample) -> list:
    """Return the structures asked for, the seconds of all models, and what each found."""
    potentials, asked = [Potential(model, sample.numbers) for model in models], []
    together = Together(potentials)
    for potential in potentials:
        ask = potential.ask
        potential.ask = lambda x, ask=ask: asked.append(len(x)) or ask(x)
    began = time.perf_counter()
    found = together.run(partial(search, sample=sample))
    return [sum(asked), time.perf_counter() - began, found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--pack", type=int, default=1)
    args = parser.parse_args()
    set_threads(1)
    sample = make_sample([x for x in read(DATA, ":") if len(x) > 1], [], {}, {})
    with tempfile.TemporaryDirectory() as folder:
        models = [noisy(args.noise, seed, Path(folder)) for seed in range(args.pack)]
        results = {f.__name__: timed(f, models, sample) for f in (before, now)}
    for name, (asked, seconds, found) in results.items():
        print(f"{name:8} {asked:8} structures asked for  {seconds:7.1f} s  fell: {found}")
    ratios = [results["now"][i] / results["before"][i] for i in (0, 1)]
    print(f"now / before: structures asked for {ratios[0]:.2f}, time {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
