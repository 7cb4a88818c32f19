"""Step `audit`: compare data and foundation model before E0s and training.

    audit/audit.json

Wrong units and signs, frames that are wrong, labels that nobody uses, and what later steps need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from rich.console import Console

from lora.catalogue.findings import LABELS, Finding
from lora.data.audit import Found, named
from lora.data.audit_file import judge, label_findings
from lora.data.audit_fit import Compared, fit_of
from lora.data.audit_outside import Far, far_outside, same_geometry
from lora.data.audit_positions import CRUSHED, in_angstrom, position_units, spacing
from lora.data.audit_sample import choose
from lora.data.grouping import weigh_types
from lora.data.held import joined, only, some
from lora.data.labels import Keys
from lora.data.origin import where
from lora.data.structures import (
    ENERGY,
    FORCES,
    STRESS,
    elements_of,
    is_isolated_atom,
    read_structures,
)
from lora.data.unused import unused_labels
from lora.errors import UserErrors
from lora.export.write import unwritable
from lora.files.terminal import WIDTH, wrapped
from lora.mace.device import set_threads
from lora.mace.elements import elements, trim_elements
from lora.mace.foundation import load_foundation
from lora.mace.labelling import label
from lora.plan.commands import Base, Run
from lora.plan.config_data import Audit
from lora.report.audit_table import table_of

DEFAULTS = Audit()
TRIED = 20  # structures on which other units of positions are tried
BATCH = 16
FOREIGN = ("holdout", "replay")  # files of another level of theory than the data
WORDS = {"warn": "warning", "accepted": "accepted", "note": "note"}


@dataclass(frozen=True)
class Read:
    """One file as it was read.

    Attributes:
        role: What it is.
        path: The file.
        structures: Its structures, without free atoms and those that the model cannot compute.
        far: Those that are far outside the rest.
        found: What was found without predictions.
    """

    role: str
    path: str
    structures: Sequence[Atoms]
    far: list[Far]
    found: list[Found]


def audit(
    files: Mapping[str, str],
    base: Base,
    keys: Keys,
    settings: Audit = DEFAULTS,
    run: Run = Run(),
    weights: Mapping[str, float] | None = None,
    engines: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare labelled files with the foundation model's predictions, print and write the result.

    Args:
        files: The labelled files by what they are: "holdout" and "replay" are of the foundation
            model's own level of theory, all others of that of the data.
        base: The foundation model.
        keys: The names of the labels in the files.
        settings: Thresholds, and findings to go on with.
        run: Threads, and the receipt to write.
        weights: The weight of each config_type in the files of the data's level of theory.
        engines: Those that the exported model is for; the foundation model's files are tried.

    Returns:
        {"files": {file: {"structures", "compared", "fits": {label: fit}}}, "findings": rows with
        name, label, level (refuse, warn, note), accepted and text}.

    Raises:
        UserErrors: A line for each finding that stops the sweep.
    """
    set_threads(run.threads)
    model = load_foundation(base.model, base.head, torch.float64)
    known = elements(model)
    with_them = (keys, weights or {}, set(known), settings)
    read = [_read(path, role, *with_them) for path, role in _once(files).items()]
    numbers = elements_of(atoms for one in read for atoms in one.structures)
    small = trim_elements(model, [z for z in known if z in numbers]) if numbers else model
    chosen = choose(
        [one.structures for one in read], [[x.index for x in one.far] for one in read], settings
    )
    result: dict[str, Any] = {"files": {}}
    found: list[Found] = []
    for one, indices in zip(read, chosen, strict=True):
        compared, positions = _compare(
            list(some(one.structures, indices)), one.path, small, settings
        )
        place = {i: k for k, i in enumerate(indices)}
        far = [Far(place[x.index], x.evidence, x.z) for x in one.far if x.index in place]
        judged = judge(one.path, compared, far, settings)
        found += [*one.found, *positions, *judged.found]
        fits = {name: asdict(judged.fits[name]) for name in LABELS}
        counts = {"structures": len(one.structures), "compared": len(compared)}
        result["files"][one.path] = counts | {"fits": fits}
    ours = joined(*(one.structures for one in read if one.role not in FOREIGN))
    found += same_geometry(ours, settings)
    found += _refusing(small, engines, base)
    result["findings"] = [_as_row(x, settings) for x in found]
    _say(result)
    if run.receipt:
        run.receipt.write(result)
    return result


def _refusing(model: torch.nn.Module, engines: Sequence[str], base: Base) -> list[Found]:
    """Return the engines that the foundation model cannot be written for."""
    refused = unwritable(model, engines).items()
    return [Found("engine_refuses", base.called, f"{name}: {why}") for name, why in refused]


def _once(files: Mapping[str, str]) -> dict[str, str]:
    """Return the first role of each file."""
    once: dict[str, str] = {}
    for role, path in files.items():
        once.setdefault(path, role)
    return once


def _read(
    path: str, role: str, keys: Keys, weights: Mapping[str, float], known: set[int], settings: Audit
) -> Read:
    """Return a file with what its labels and cells say alone."""
    structures = only(read_structures(path, keys), lambda atoms: not is_isolated_atom(atoms))
    if role not in FOREIGN:
        structures = weigh_types(structures, weights)
    found = label_findings(path, structures, unused_labels(path, keys))
    strange = {i: None for i, x in enumerate(structures) if set(x.numbers.tolist()) - known}
    if strange and role != "replay":  # which leaves them out
        frames = named([where(structures[i], path, i) for i in strange])
        others = elements_of(structures[i] for i in strange)
        symbols = " ".join(chemical_symbols[z] for z in others if z not in known)
        has = " ".join(chemical_symbols[z] for z in sorted(known))
        said = f"{symbols} in {len(strange)} structures, of a model of {has}"
        found.append(Found("unknown_element", frames, said))
    left = some(structures, [i for i in range(len(structures)) if i not in strange])
    return Read(role, path, left, far_outside(left, settings), found)


def _compare(
    structures: Sequence[Atoms], path: str, model: torch.nn.Module, settings: Audit
) -> tuple[Compared, list[Found]]:
    """Return structures with predictions; where positions are of another unit, with those in Å."""
    some = [atoms for atoms in structures if len(atoms) > 1 or atoms.pbc.any()][:TRIED]
    ratio = spacing(some)
    for row in position_units(ratio):
        said = f"neighbours are {ratio:.2g} times as far apart as their radii say"
        if ratio > CRUSHED:
            before, after = (_explained(_predict(x, model)) for x in (some, _all_in(some, row)))
            if after < max(before, settings.least_correlation):
                continue
            said += f", and in Å the model explains the labels (correlation {after:.2f})"
        return _predict(_all_in(structures, row), model), [Found(row.name, path, said)]
    return _predict(structures, model), []


def _all_in(structures: Sequence[Atoms], row: Finding) -> list[Atoms]:
    return [in_angstrom(atoms, row) for atoms in structures]


def _explained(compared: Compared) -> float:
    """Return the correlation of forces, or else of energies, that is certain."""
    forces = fit_of("forces", compared)
    return forces.least if forces.n else fit_of("energy", compared).least


def _predict(structures: Sequence[Atoms], model: torch.nn.Module) -> Compared:
    """Return structures with the model's predictions; stresses where a structure can have one."""
    made = label(structures, model) if structures else []
    energy = np.array([atoms.info[ENERGY] for atoms in made])
    forces = [atoms.arrays[FORCES] for atoms in made]
    return Compared(structures, energy, forces, [atoms.info.get(STRESS) for atoms in made])


def _as_row(found: Found, settings: Audit) -> dict[str, Any]:
    """Return a finding as the receipt holds it."""
    accepted = found.name in settings.accept
    level = "accepted" if accepted and found.level != "note" else found.level
    text = found.text(accepted)
    return {"name": found.name, "label": found.row.label, "level": level, "text": text}


def _say(result: dict[str, Any]) -> None:
    """Print the table and what was found, and raise where the sweep must not go on.

    Raises UserErrors: a line for each finding that refuses.
    """
    Console(width=WIDTH).print(table_of(result))
    rows = result["findings"]
    for level in ("warn", "accepted", "note"):  # the log of a job is not where one looks
        for row in rows:
            if row["level"] == level:
                print(wrapped(f"{WORDS[level]}: {row['text']}"))
    if refused := [f"audit: {row['text']}" for row in rows if row["level"] == "refuse"]:
        raise UserErrors(refused)
