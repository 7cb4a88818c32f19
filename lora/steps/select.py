"""Step `select`: choose frames to label, the farthest from the training set as the model sees them.

chosen.xyz

The frames have no labels: what is written is their geometry and what their comment lines say, in
the order of the choice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from lora.adapters.merged import load_model
from lora.data.checked import check_geometry
from lora.data.farthest import farthest
from lora.data.held import only, some
from lora.data.labels import NAMES, Keys, names_of
from lora.data.origin import where
from lora.data.structures import is_isolated_atom, load_structures, write_structures
from lora.errors import UserError
from lora.mace.descriptors import structure_descriptors
from lora.mace.device import set_threads
from lora.mace.elements import check_elements
from lora.plan.commands import MOST_CHOSEN, Base, Run
from lora.plan.words import few

log = logging.getLogger(__name__)
CALCULATED = {"energy", "free_energy", "energies", "stress", "stresses", "virial", "dipole"}


@dataclass(frozen=True)
class SelectSettings:
    """Which frames are chosen.

    Attributes:
        count: The most that are chosen.
        score: The name of a number in the comment line or the columns of each frame, such as an
            uncertainty; of atoms the largest counts, of vectors their length.  None means that all
            frames are chosen from.
        above: Frames whose score is not above this are left out, in the unit of the score.
        keys: The names of labels in the frames, which are left out of what is written.
    """

    count: int = MOST_CHOSEN
    score: str | None = None
    above: float | None = None
    keys: Keys = Keys()


DEFAULTS = SelectSettings()


def select(
    pool: str | Path,
    base: Base,
    train: Sequence[str | Path],
    out: str | Path,
    settings: SelectSettings = DEFAULTS,
    run: Run = Run(),
) -> dict[str, Any]:
    """Choose frames by farthest points in the descriptors of a model, and write them.

    Each frame is the one that is farthest from the training set and from the frames before it.

    Args:
        pool: The frames to choose from, as an MD has left them.
        base: The model: a .model file, a name that MACE knows, or an adapter.
        train: Files of the structures that the model was trained on.
        out: The file to write.
        settings: How many, and of which.
        run: Threads.

    Returns:
        {"frames": in the pool, "broken": how many were left out because they cannot be computed,
        "above": how many were chosen from, "chosen": their numbers in the pool, in order}.

    Raises:
        UserError: A file, the model, an element that it does not know, or a score.
    """
    if (settings.score is None) != (settings.above is None):
        raise UserError("select: --score and --above go together; give both or none")
    set_threads(run.threads)
    frames = load_structures(pool)
    whole = _whole(frames, pool)
    kept = [i for i in whole if _is_above(frames[i], where(frames[i], pool, i), settings)]
    if not kept:
        raise UserError(
            f"{pool}: no frame has a {settings.score} above {settings.above:g}; lower --above, or "
            "run longer"
            if whole
            else f"{pool}: holds no frame that can be computed"
        )
    model, known = load_model(base), _trained(train)
    for structures, path in [(some(frames, kept), pool), *known]:
        check_elements(model, structures, path)
    there = [structure_descriptors(model, x) for x, _ in known if len(x)]
    start = np.concatenate(there) if there else None
    vectors = structure_descriptors(model, some(frames, kept))
    chosen = [kept[i] for i in farthest(vectors, settings.count, start)]
    write_structures(out, [_without_labels(frames[i], settings.keys) for i in chosen])
    found = {"frames": len(frames), "broken": len(frames) - len(whole), "above": len(kept)}
    _say(out, found, chosen, settings)
    return found | {"chosen": chosen}


def _whole(frames: Sequence[Atoms], pool: str | Path) -> list[int]:
    """Return the numbers of the frames that a calculation can be made of, and log the others."""
    found, broken = [], []
    for i, atoms in enumerate(frames):
        try:
            check_geometry(atoms, str(i))
            found.append(i)
        except UserError as error:
            broken.append(str(error).partition(";")[0])
    if broken:
        log.warning("%s: left out %d frames: %s", pool, len(broken), few(broken, 3))
    return found


def _is_above(atoms: Atoms, place: str, settings: SelectSettings) -> bool:
    """Return True for a frame whose score is above the bound, or where there is no bound."""
    if settings.score is None or settings.above is None:
        return True
    held = (atoms.info, atoms.arrays, getattr(atoms.calc, "results", {}))
    value = next((x[settings.score] for x in held if settings.score in x), None)
    if value is None:
        names = few(names_of(atoms)) or "none"
        raise UserError(f"{place}: has no {settings.score}; its keys are {names}")
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise UserError(f"{place}: {settings.score} is no number") from None
    if not numbers.size or not np.isfinite(numbers).all():
        raise UserError(f"{place}: {settings.score} is not finite; leave the frame out")
    vectors = settings.score not in atoms.info and numbers.ndim > 1
    sizes = np.linalg.norm(numbers, axis=-1) if vectors else numbers
    return bool(sizes.max() > settings.above)


def _trained(files: Sequence[str | Path]) -> list[tuple[Sequence[Atoms], str | Path]]:
    """Return the structures of the training set, without free atoms, and their files."""
    read = [(load_structures(path), path) for path in files]
    return [(only(x, lambda atoms: not is_isolated_atom(atoms)), path) for x, path in read]


def _without_labels(atoms: Atoms, keys: Keys) -> Atoms:
    """Return geometry and comment of a frame: a model's energy must not pass for a label."""
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    conditions = {keys.total_charge, keys.total_spin}
    labels = {*NAMES.values(), *keys.named().values(), *CALCULATED} - conditions
    out.info = {key: value for key, value in atoms.info.items() if key not in labels}
    return out


def _say(
    out: str | Path, found: dict[str, int], chosen: list[int], settings: SelectSettings
) -> None:
    """Print what was chosen, and why there may be fewer than asked for."""
    of = f"{found['frames']} frames"
    if settings.score is not None:
        of = f"{found['above']} with {settings.score} above {settings.above:g}, of {of}"
    print(f"{out}: {len(chosen)} of {of}: {few(chosen)}")
    if len(chosen) < settings.count:
        print(f"select: {settings.count} were asked for, and no other frame is new to the model")
