"""Merged models as functions of structures: many at once, or one by one as an ASE calculator."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from torch import nn

from lora.calculators.company import Company
from lora.calculators.joined import Joined
from lora.mace.door import Untyped
from lora.mace.elements import check_elements, elements, get_e0s, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.moving import Moving, fills

Predicted = tuple[np.ndarray, list[np.ndarray]]  # energies [n] (eV), forces of each (eV/Å)
KEYS = ("energy", "forces")
Result = TypeVar("Result")


class Potential:
    """Energies (eV) and forces (eV/Å) of structures, always in float64.

    Args:
        model_file: a .model file with one head
        numbers: atomic numbers that will occur; the model is trimmed to them
        batch_size: structures that go through the model together

    Attributes: r_max (Å), depth (number of layers), e0s {symbol: eV}.
    """

    def __init__(
        self,
        model_file: str | Path,
        numbers: Sequence[int],
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        model: Untyped = load_foundation(model_file, dtype=torch.float64).to(device)
        check_elements(model, [Atoms(numbers)], model_file)
        model = trim_elements(model, sorted(set(numbers)))
        self.r_max, self.depth = float(model.r_max), int(model.num_interactions)
        self.e0s = get_e0s(model)
        self.elements = elements(model)
        self.model, self.batch_size = model, batch_size
        self.ask: Callable[[list[Atoms]], Predicted] | None = None  # `Together` sets it

    def __call__(self, structures: list[Atoms]) -> Predicted:
        """Energies [n] (eV) and forces, [n_atoms, 3] of each structure (eV/Å)."""
        if self.ask is None:
            Together([self])
            assert self.ask is not None
        return self.ask(structures)


class Together:
    """Potentials that answer together, in one pass where their models are of one kind.

    Each predicts what it does alone, but for the order of sums.
    """

    def __init__(self, potentials: Sequence[Potential]) -> None:
        """Join the models of potentials, none of which has been called.

        Args:
            potentials: At least one, on one device and with one batch size.
        """
        self.potentials = potentials
        models = [x.model for x in potentials]
        self.passes = _passes(models)
        for i, potential in enumerate(potentials):
            potential.ask = partial(self._ask, i)
            del potential.model  # joined with others, it is no model of its own any more
        self._company: Company | None = None

    def run(self, work: Callable[[Potential], Result]) -> list[Result]:
        """Return what a work returns for each potential, which all ask together.

        Args:
            work: A function of a potential; within it, `lora.calculators.company.together` runs
                several that ask together, too.

        Raises:
            Exception: What the first work that fails raises.
        """
        self._company = Company(self._answers)
        try:
            return self._company.run([partial(work, x) for x in self.potentials])
        finally:
            self._company = None

    def _ask(self, place: int, structures: list[Atoms]) -> Predicted:
        if self._company:
            found: Predicted = self._company.ask((place, structures))
            return found
        return self._answers([(place, structures)])[0]

    def _answers(self, questions: list[tuple[int, list[Atoms]]]) -> list[Predicted]:
        """Return the answers to questions, each of a potential and about some structures."""
        of_each: dict[int, list[Atoms]] = {}
        for place, structures in questions:
            of_each.setdefault(place, []).extend(structures)
        found: dict[int, Predicted] = {}
        for one in self.passes:
            asked = {i: of_each[i] for i in one.places if i in of_each}
            found |= one.predict(asked, self.potentials[0].batch_size)
        answers, given = [], dict.fromkeys(of_each, 0)
        for place, structures in questions:
            own = slice(given[place], given[place] + len(structures))
            answers.append((found[place][0][own], found[place][1][own]))
            given[place] = own.stop
        return answers


def _passes(models: Sequence[nn.Module]) -> list["_Pass"]:
    """Return one pass of all models; where they cannot be filled up or joined, one of each."""
    if all(map(fills, models)):
        with suppress(ValueError):  # they are not of one kind
            return [_Pass(models, list(range(len(models))))]
    return [_Pass([model], [i]) for i, model in enumerate(models)]


class _Pass:
    """Models that compute in one pass, and their places among all."""

    def __init__(self, models: Sequence[nn.Module], places: list[int]) -> None:
        self.joined, self.places = Joined(models), places
        self.moving = Moving(self.joined.model)

    def predict(self, asked: dict[int, list[Atoms]], batch_size: int) -> dict[int, Predicted]:
        """Return what models predict, {place: for structures of its own}."""
        energies: dict[int, list[np.ndarray]] = {place: [np.zeros(0)] for place in asked}
        forces: dict[int, list[np.ndarray]] = {place: [] for place in asked}
        size = max(1, batch_size // max(1, len(asked)))
        for start in range(0, max(map(len, asked.values()), default=0), size):
            parts = {i: x[start : start + size] for i, x in asked.items() if x[start:]}
            batch = self.moving(list(parts.values()))
            out = self.joined(batch, [self.places.index(i) for i in parts])
            energy, force = (np.split(out[key].detach().cpu().numpy(), len(parts)) for key in KEYS)
            for (i, part), e, f in zip(parts.items(), energy, force, strict=True):
                ends = np.cumsum([len(atoms) for atoms in part])
                energies[i].append(e[: len(part)])  # what fills it up comes after them
                forces[i] += np.split(f[: ends[-1]], ends[:-1])
        return {i: (np.concatenate(energies[i]), forces[i]) for i in asked}


class Single(Calculator):
    """A potential as an ASE calculator, for ASE's dynamics."""

    implemented_properties = cast(list[str], ("energy", "forces"))  # read only

    def __init__(self, potential: Callable[[list[Atoms]], Predicted]) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` for a structure: energy (eV) and forces [n_atoms, 3] (eV/Å).

        Args:
            atoms: The structure.
            properties: What ASE asks for; both are always computed.
            system_changes: What has changed since the last call, for ASE.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        energies, forces = self.potential([self.atoms])
        self.results = {"energy": float(energies[0]), "forces": forces[0]}
