"""Frames of short molecular dynamics of a model, for `lora.data.around`."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from lora.calculators.company import Company
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
    The runs go on side by side, so that the model computes their forces together.

    Args:
        around: What to make them of.
    """
    starts = list(_starts(around))
    company = Company(partial(_answers, around))
    each = zip(starts, cycle(around.temperatures), around.rng.spawn(len(starts)), strict=False)
    found = company.run([partial(_run, company, *one) for one in each])
    return [atoms for frames in found for atoms in frames][: around.count]


def _starts(around: Around) -> Iterator[Atoms]:
    """Yield where the runs start, those of the training set and the others in turn."""
    runs = -(-around.count // FRAMES)
    others = [x for pair in zip(mixed(around), changed(around), strict=False) for x in pair]
    others = [atoms for atoms in others if fits(atoms)]
    own = around.some()
    for i in range(runs):
        yield others[i // 2] if i % 2 and i // 2 < len(others) else own[i]


def _run(
    company: Company, atoms: Atoms, temperature: float, rng: np.random.Generator
) -> list[Atoms]:
    """Return the frames of one run, up to where it explodes."""

    def ask(structures: list[Atoms]) -> Predicted:
        found = [company.ask(one) for one in structures]
        if not all(np.abs(x).max() <= EXPLODED for x in found):  # nor where one is no number
            raise _ExplodedError
        return np.full(len(found), np.nan), found  # dynamics ask for forces alone

    frames: list[Atoms] = []
    atoms.calc = Single(ask)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        *(atoms, TIMESTEP * units.fs),
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=rng,
    )
    try:
        for _ in range(FRAMES):
            dynamics.run(EVERY)
            frames.append(bare(atoms))
    except _ExplodedError:
        pass
    return frames


def _answers(around: Around, structures: list[Atoms]) -> list[np.ndarray]:
    """Return the forces on structures (eV/Å), without what runs keep beside them."""
    return around.forces([bare(atoms) for atoms in structures])
