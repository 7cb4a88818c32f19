"""Frames of short molecular dynamics of a model, for `lora.data.around`."""

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from lora.calculators.potential import Predicted, Single
from lora.data.around import Around, changed, fits, mixed
from lora.data.structures import bare

FRAMES, EVERY = 4, 20  # of a run that are kept, one in so many steps
TIMESTEP, FRICTION = 1.0, 0.05  # fs, 1/fs; strong, as a run from a strained structure heats up
EXPLODED = 100.0  # eV/Å; a run ends at such a force


class _ExplodedError(Exception):
    """Raised within a run, to end it."""


def heated(around: Around) -> list[Atoms]:
    """Return frames of Langevin dynamics, each run at the next of the temperatures.

    Half of the runs start from structures of the training set, half from those of the kinds `mixed`
    and `changed`, whose strained bonds relax in it.  Frames after an explosion are left out.

    Args:
        around: What to make them of.
    """
    found: list[Atoms] = []
    for i, atoms in enumerate(_starts(around)):
        temperature = around.temperatures[i % len(around.temperatures)]
        found += _run(around, atoms, temperature)
    return found[: around.count]


def _starts(around: Around) -> Iterator[Atoms]:
    """Yield where the runs start, those of the training set and the others in turn."""
    runs = -(-around.count // FRAMES)
    others = [x for pair in zip(mixed(around), changed(around), strict=False) for x in pair]
    others = [atoms for atoms in others if fits(atoms)]
    own = around.some()
    for i in range(runs):
        yield others[i // 2] if i % 2 and i // 2 < len(others) else own[i]


def _run(around: Around, atoms: Atoms, temperature: float) -> list[Atoms]:
    """Return the frames of one run."""
    frames: list[Atoms] = []
    atoms.calc = Single(_checked(around))
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=around.rng)
    dynamics = Langevin(
        *(atoms, TIMESTEP * units.fs),
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=around.rng,
    )
    try:
        for _ in range(FRAMES):
            dynamics.run(EVERY)
            frames.append(bare(atoms))
    except _ExplodedError:
        pass
    return frames


def _checked(around: Around) -> Callable[[list[Atoms]], Predicted]:
    """Return a potential that ends a run where it explodes; dynamics ask for forces alone."""

    def ask(structures: list[Atoms]) -> Predicted:
        forces = [around.forces(atoms) for atoms in structures]
        if not all(np.abs(x).max() <= EXPLODED for x in forces):  # nor where one is no number
            raise _ExplodedError
        return np.full(len(forces), np.nan), forces

    return ask
