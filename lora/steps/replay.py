"""Step `replay`: structures that remind a training of the foundation model, made once for a sweep.

replay/replay.xyz
"""

import logging
from pathlib import Path

import numpy as np
import torch

from lora.data.structures import load_structures, read_structures, write_structures
from lora.errors import UserError
from lora.files.sealed import write_sealed
from lora.mace.device import set_threads
from lora.mace.elements import elements
from lora.mace.foundation import load_foundation
from lora.mace.labelling import label

log = logging.getLogger(__name__)

LABELS = ("foundation", "file")


def replay(
    structures_file: str | Path,
    foundation: str | Path,
    out: str | Path,
    head: str | None = None,
    labels: str = "foundation",
    num_samples: int = 1000,
    seed: int = 0,
    keys: dict[str, str] | None = None,
    threads: int | None = None,
) -> dict:
    """Choose structures for replay and label them.

    Args:
        structures_file: data of the foundation model's own kind
        foundation, head: as for `load_foundation`
        labels: foundation, its own predictions, so that it starts without an error there; or file,
            those of the file, at the foundation model's own level of theory
        num_samples: how many at most, chosen at random; structures with other elements are left out
        keys: of labels in the file, {"energy_key", "forces_key", "stress_key"}

    Returns: {"n_structures", "labels", "left_out"}; written beside the xyz as replay.json.

    Raises UserError: no structure fits.
    """
    set_threads(threads)
    if labels not in LABELS:
        raise UserError(f"replay.labels: {labels!r} is not known; use one of {', '.join(LABELS)}")
    model = load_foundation(foundation, head, torch.float64)
    if labels == "file":
        found = read_structures(structures_file, **(keys or {}))
    else:
        found = load_structures(structures_file)
    known = set(elements(model))
    fitting = [atoms for atoms in found if set(atoms.numbers.tolist()) <= known]
    if not fitting:
        raise UserError(f"{structures_file}: holds no structure of the foundation model's elements")
    order = np.random.default_rng(seed).permutation(len(fitting))[:num_samples]
    chosen = [fitting[i] for i in sorted(order.tolist())]
    if labels == "foundation":
        chosen = label(chosen, model)
    write_structures(out, chosen)
    left_out = len(found) - len(fitting)
    result = {"n_structures": len(chosen), "labels": labels, "left_out": left_out}
    write_sealed(Path(out).with_suffix(".json"), result, [Path(out)])
    log.info("%d structures for replay, labels of %s, %d left out", len(chosen), labels, left_out)
    return result
