"""Step `replay`: choose and label the structures that trainings replay, once for a sweep.

replay/replay.xyz
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from lora.data.checked import check_geometry
from lora.data.free_atoms import mark_free_atom
from lora.data.held import hold, only
from lora.data.labels import Keys, name_conditions
from lora.data.origin import Origin, origin_of, set_origin
from lora.data.structures import (
    is_isolated_atom,
    load_structures,
    read_structures,
    write_structures,
)
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.mace.device import set_threads
from lora.mace.elements import elements
from lora.mace.foundation import load_foundation
from lora.mace.labelling import label
from lora.plan.commands import Base, Run
from lora.plan.config import REPLAY_LABELS, Replay

log = logging.getLogger(__name__)
_CONFIG = Replay()  # the defaults


@dataclass(frozen=True)
class ReplaySettings:
    """How to choose structures for replay; the fields are keys of `replay` in the config.

    Attributes:
        labels: foundation (its own predictions, so that its error on them starts at zero) or file
            (those of the file, at the foundation model's own level of theory).
        num_samples: The largest number of structures; of more, some are chosen at random.
        seed: The random seed of the choice.
        keys: The names of the labels in the file.
    """

    labels: str = _CONFIG.labels
    num_samples: int = _CONFIG.num_samples
    seed: int = _CONFIG.seed
    keys: Keys = Keys()


DEFAULTS = ReplaySettings()


def replay(
    structures_file: str | Path,
    base: Base,
    out: str | Path,
    settings: ReplaySettings = DEFAULTS,
    run: Run = Run(),
) -> dict[str, Any]:
    """Choose structures for replay and label them.

    Structures with elements that the foundation model does not know, and free atoms, are left out.

    Args:
        structures_file: Data of the foundation model's own kind.
        base: The foundation model.
        out: The xyz file to write.
        settings: How to choose and label.
        run: Threads, and the receipt to write in place of replay.json beside `out`.

    Returns:
        {"n_structures", "labels", "left_out"}, the content of replay.json.

    Raises:
        UserError: No structure fits, or the file has no labels.
    """
    set_threads(run.threads)
    if settings.labels not in REPLAY_LABELS:
        raise UserError(
            f"replay.labels: {settings.labels!r} is not known; use one of "
            f"{', '.join(REPLAY_LABELS)}"
        )
    model = load_foundation(base.model, base.head, torch.float64)
    found = _read(structures_file, settings)
    known = set(elements(model))
    fitting = only(found, lambda x: set(x.numbers.tolist()) <= known and not is_isolated_atom(x))
    if not fitting:
        raise UserError(f"{structures_file}: holds no structure of the foundation model's elements")
    order = np.random.default_rng(settings.seed).permutation(len(fitting))[: settings.num_samples]
    chosen = [fitting[i] for i in sorted(order.tolist())]
    if settings.labels == "foundation":
        origins = [origin_of(atoms) for atoms in chosen]
        chosen = label(chosen, model)
        for atoms, origin in zip(chosen, origins, strict=True):
            if origin:
                set_origin(atoms, origin)
    write_structures(out, chosen)
    left_out = len(found) - len(fitting)
    result = {"n_structures": len(chosen), "labels": settings.labels, "left_out": left_out}
    (run.receipt or Receipt(Path(out).with_suffix(".json"))).write(result, [Path(out)])
    log.info(
        "%d structures for replay, labels of %s, %d left out",
        *(len(chosen), settings.labels, left_out),
    )
    return result


def _read(path: str | Path, settings: ReplaySettings) -> Sequence[Atoms]:
    """Return the structures of a file; of those that get new labels, only geometries are read."""
    if settings.labels == "file":
        return read_structures(path, settings.keys)

    def each() -> Iterator[Atoms]:
        for i, atoms in enumerate(load_structures(path)):
            set_origin(atoms, Origin(str(path), i))
            check_geometry(atoms, str(origin_of(atoms)))
            name_conditions(atoms, settings.keys)
            mark_free_atom(atoms)
            yield atoms

    return hold(each())
