"""Judge one file: the one place where what was measured becomes findings."""

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms

from lora.catalogue.findings import LABELS, Label
from lora.data.audit import Found, scale_findings
from lora.data.audit_fit import Compared, Fit, fit_of
from lora.data.audit_frames import (
    constant,
    differences,
    frames_of,
    wrong_frames,
    zero_forces,
    zero_stress,
)
from lora.data.audit_labels import missing_labels
from lora.data.audit_outside import Far
from lora.data.kinds import in_words, strange_kinds
from lora.data.labels import has_volume
from lora.data.unused import Unused
from lora.plan.config_data import Audit

FORCES_FIRST: tuple[Label, ...] = ("forces", "energy", "stress")


@dataclass(frozen=True)
class Judged:
    """What was found in one file.

    Attributes:
        fits: How each kind of label goes with the predictions.
        found: The findings.
    """

    fits: dict[Label, Fit]
    found: list[Found]


def judge(path: str, compared: Compared, far: Sequence[Far], settings: Audit) -> Judged:
    """Judge the labels of a file by the foundation model's predictions for some of its structures.

    Structures whose labels are zero, constant or far off are named, and left out of the slopes.

    Args:
        path: The file, for messages.
        compared: The structures with predictions.
        far: Those among them that are far outside the rest, by their numbers in `compared`.
        settings: The thresholds.
    """
    zero, found = zero_forces(compared)
    no_stress, more = zero_stress(compared)
    found += more
    energies, forces = differences(compared, settings)
    moving = compared.only(x for x in range(len(compared)) if x not in zero)
    for quantity in LABELS:
        left = compared.only(x for x in range(len(compared)) if x not in no_stress)
        found += constant(quantity, moving if quantity == "forces" else left)
    wrong, single = wrong_frames(moving, settings)
    odd = {id(moving.structures[i]) for i in wrong}
    found += single
    out: dict[Label, set[int]] = {"energy": {*energies}, "forces": {*zero}, "stress": {*no_stress}}
    out["forces"] |= {i for i, x in enumerate(compared.structures) if id(x) in odd}
    constants = {x.name for x in found}
    fits: dict[Label, Fit] = {}
    trusted = False
    for quantity in FORCES_FIRST:
        rest = compared.only(x for x in range(len(compared)) if x not in out[quantity])
        if f"{quantity}_constant" in constants:
            fits[quantity] = fit_of(quantity, rest)
            continue
        fits[quantity], scale = scale_findings(quantity, path, rest, settings, trusted)
        trusted = fits["forces"].least >= settings.least_correlation
        found += scale
    named = {i for i in range(len(compared)) if id(compared.structures[i]) in odd} | {*zero}
    forces = {i: said for i, said in forces.items() if i not in named}
    return Judged(fits, [*found, *_outside(compared, far, energies, forces, found)])


def _outside(
    compared: Compared,
    far: Sequence[Far],
    energies: dict[int, str],
    forces: dict[int, str],
    found: Sequence[Found],
) -> list[Found]:
    """Return the frames far outside the rest, those that the model has so apart from the others.

    Where all labels of a kind are of another unit, differences from predictions say nothing.
    """
    refused = {x.row.label for x in found if x.level == "refuse"}
    energies = {} if "energy" in refused else energies
    forces = {} if "forces" in refused else forces
    said = {x.index: x.evidence for x in far}
    off = {i: f"{said[i]}, {text}" if i in said else text for i, text in energies.items()}
    off |= {i: f"{said[i]}, {text}" for i, text in forces.items() if i in said and i not in off}
    strange = {i: text for i, text in forces.items() if i not in off}
    right = {i: text for i, text in said.items() if i not in off and not refused}
    every = [in_words(atoms) for atoms in compared.structures]
    unknown = strange_kinds(every, [i in off for i in range(len(compared))])
    rows = {"unknown_kind" if unknown else "far_outside": off, "strange_forces": strange}
    rows["far_outside_as_predicted"] = right
    return [_of_frames(name, compared, texts) for name, texts in rows.items() if texts]


def _of_frames(name: str, compared: Compared, texts: dict[int, str]) -> Found:
    """Return one finding for some frames, with the evidence of the first."""
    first = next(iter(texts.values()))
    evidence = first if len(texts) == 1 else f"the first: {first}"
    return Found(name, frames_of(compared, [*texts]), evidence)


def label_findings(path: str, structures: Sequence[Atoms], unused: list[Unused]) -> list[Found]:
    """Return what there is to say of the labels of a file, without predictions.

    Args:
        path: The file.
        structures: All its structures, without free atoms.
        unused: The labels that no key asks for.
    """
    found = []
    for name, lost in (("unused_labels", True), ("spare_labels", False)):
        rows = [x for x in unused if bool(x.instead) == lost]
        if rows:
            said = ", ".join(f"{x.name} ({x.quantity}) in {x.frames} structures" for x in rows)
            found.append(Found(name, path, said))
    missing = {name: n for name, n in missing_labels(structures).items() if n}
    if missing.get("stress") == sum(map(has_volume, structures)):
        del missing["stress"]  # none is there: nobody asks for it
    if missing:
        said = ", ".join(f"{name} of {n} structures" for name, n in missing.items())
        found.append(Found("missing_labels", path, f"no {said} (of {len(structures)})"))
    return found
