"""Step `keep`: make structures around the training set, and label them by the foundation model.

keep/keep.xyz

They keep what the foundation model knows there, without any structure that it was trained on
and without a second head: the labels are its own, with the new E0s, so that a training begins
without an error on them.  Of many candidates those are chosen that lie farthest from the training
set and from each other in the space of its descriptors (as asked for in mace#1333), because near
the training set its labels and those of the data would contradict each other.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import nn

from lora.catalogue.made import BY_NAME, CANDIDATES
from lora.catalogue.named import resolve
from lora.data.around import Around, fits
from lora.data.farthest import farthest
from lora.data.held import only, some
from lora.data.labels import FORCES
from lora.data.structures import bare, elements_of, load_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import Receipt, read_json
from lora.mace.descriptors import structure_descriptors
from lora.mace.device import set_threads
from lora.mace.elements import with_e0s
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.labelling import label
from lora.mace.predict import predict
from lora.plan.commands import Base, Run
from lora.plan.config_keep import Keep

log = logging.getLogger(__name__)
_CONFIG = Keep()  # the defaults
SEEN = 500  # structures of the training set that others are made of, and are to be far from
STRONG = 10.0  # eV/Å; a structure with a larger force would outweigh the others in the loss


@dataclass(frozen=True)
class KeepSettings:
    """How to make structures; the fields are keys of `keep` in the config.

    Attributes:
        kinds: The names of rows of `lora/catalogue/made.py`.
        num_samples: The largest number of structures.
        temperatures: Of molecular dynamics (K).
        seed: The random seed.
    """

    kinds: tuple[str, ...] = _CONFIG.kinds
    num_samples: int = _CONFIG.num_samples
    temperatures: tuple[float, ...] = _CONFIG.temperatures
    seed: int = _CONFIG.seed


DEFAULTS = KeepSettings()


def keep(
    train_file: str | Path,
    e0s_file: str | Path,
    base: Base,
    out: str | Path,
    settings: KeepSettings = DEFAULTS,
    batch_size: int = 32,
    run: Run = Run(),
) -> dict[str, Any]:
    """Make structures around a training set, choose some, and label them.

    Args:
        train_file: train.xyz of the split.
        e0s_file: e0s.json, with the new E0s.
        base: The foundation model.
        out: The xyz file to write; the config_type of a structure is its kind.
        settings: How to make and choose.
        batch_size: The number of structures a batch.
        run: Threads, and the receipt to write in place of keep.json beside `out`.

    Returns:
        {"n_structures", "kinds": {kind: {"made", "sound", "chosen"}}, "seed"}, the content of
        keep.json; sound are those without overlaps and forces above `STRONG`.

    Raises:
        UserError: Out of these structures none can be made, or a kind is not known.
    """
    set_threads(run.threads)
    if unknown := [x for x in settings.kinds if x not in BY_NAME]:
        raise UserError(f"keep.kinds: {unknown[0]!r} is not known; use {', '.join(BY_NAME)}")
    rng = np.random.default_rng(settings.seed)
    sources = _sources(train_file, rng)
    whole = load_foundation(base.model, base.head, torch.float64)
    model = with_e0s(whole, elements_of(sources), read_json(e0s_file)["E0s"])
    count = -(-CANDIDATES * settings.num_samples // len(settings.kinds))
    forces = partial(_forces, model, batch_size)
    around = Around(sources, count, settings.temperatures, forces, rng)
    made = {kind: resolve(BY_NAME[kind].function)(around) for kind in settings.kinds}
    sound = {kind: _sound(found, model, kind, batch_size) for kind, found in made.items()}
    candidates = [atoms for found in sound.values() for atoms in found]
    if not candidates:
        raise UserError(
            f"{train_file}: no sound structure of the kinds {', '.join(settings.kinds)} can be "
            "made of these; add kinds to keep.kinds, or take keep out of the grid"
        )
    vectors, seen = (structure_descriptors(model, x, batch_size) for x in (candidates, sources))
    chosen = [candidates[i] for i in sorted(farthest(vectors, settings.num_samples, seen))]
    write_structures(out, chosen)
    taken = Counter(atoms.info["config_type"] for atoms in chosen)
    counts = {
        kind: {"made": len(made[kind]), "sound": len(sound[kind]), "chosen": taken[kind]}
        for kind in settings.kinds
    }
    result = {"n_structures": len(chosen), "kinds": counts, "seed": settings.seed}
    (run.receipt or Receipt(Path(out).with_suffix(".json"))).write(result, [Path(out)])
    for kind, n in counts.items():
        log.info("%s: %d made, %d sound, %d chosen", kind, *n.values())
    log.info("%d structures to keep, seed %d", len(chosen), settings.seed)
    return result


def _sources(train_file: str | Path, rng: np.random.Generator) -> Sequence[Atoms]:
    """Return structures of the training set that others can be made of, without their labels."""
    found = only(load_structures(train_file), lambda atoms: len(atoms) > 1)
    if not found:
        raise UserError(f"{train_file}: has no structure of two atoms or more to make others of")
    places = sorted(rng.permutation(len(found))[:SEEN].tolist())
    return [bare(atoms) for atoms in some(found, places)]


def _forces(model: nn.Module, batch_size: int, structures: list[Atoms]) -> list[np.ndarray]:
    """Return the forces on each structure, [n_atoms, 3] (eV/Å)."""
    found = predict(model, graphs(structures, model), batch_size)["forces"]
    return np.split(found, np.cumsum([len(atoms) for atoms in structures])[:-1])


def _sound(made: Sequence[Atoms], model: nn.Module, kind: str, batch_size: int) -> list[Atoms]:
    """Return the structures without overlaps and too large forces, labelled, with their kind."""
    apart = [atoms for atoms in made if fits(atoms)]
    labelled = label(apart, model, batch_size) if apart else []
    sound = [atoms for atoms in labelled if np.abs(atoms.arrays[FORCES]).max() <= STRONG]
    for atoms in sound:
        atoms.info["config_type"] = kind
    return sound
