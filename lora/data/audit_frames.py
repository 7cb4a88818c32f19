"""Find single frames whose labels the foundation model says are wrong."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from lora.catalogue.findings import Finding, Label, units_of
from lora.data.audit import FLOORS, ODD, Found, distance, named, reach
from lora.data.audit_fit import Compared, Fit, atoms_energy, fit
from lora.data.audit_labels import label_of
from lora.data.audit_outside import LEAST_ENERGY, LEAST_FORCE, energies_left, robust_z
from lora.data.origin import where
from lora.data.structures import formula_of
from lora.plan.config_data import Audit

STILL = 1e-10  # eV/Å; forces below are zero
SEVERAL = 3  # frames from which on a wrong unit of some frames is sure
DIFFERENT = 0.1  # eV/Å; RMS of predicted forces from which on zero is wrong
MOST = 0.8  # of the judged frames that can have a wrong unit while it is not that of the file
LARGE = 0.3  # of the median size of predicted forces, which a frame needs to be judged alone


def zero_forces(compared: Compared) -> tuple[list[int], list[Found]]:
    """Return the structures whose forces are all zero, and what the foundation model says of them.

    Args:
        compared: The structures.
    """
    still, wrong, atoms_still = [], [], 0
    for i, atoms in enumerate(compared.structures):
        forces = label_of(atoms, "forces")
        if forces is None:
            continue
        sizes = np.linalg.norm(compared.forces[i], axis=1)
        zero = np.abs(forces).max(axis=1) < STILL
        if zero.all():
            still.append(i)
            if np.sqrt(np.mean(sizes**2)) > DIFFERENT:
                wrong.append(i)
        else:
            atoms_still += int((zero & (sizes > DIFFERENT)).sum())
    found = []
    if wrong:
        said = f"all zero in {len(wrong)} of {len(compared)} structures"
        found.append(Found("forces_zero", frames_of(compared, wrong), said))
    if atoms_still:
        place = frames_of(compared, range(len(compared))).rpartition(" frame")[0]
        said = f"zero on {atoms_still} atoms that the foundation model pulls at, and not on others"
        found.append(Found("forces_zero", place, said, sure=False))
    return still, found


def zero_stress(compared: Compared) -> tuple[list[int], list[Found]]:
    """Return the structures whose stress is zero and should not be, and what to say of them.

    Args:
        compared: The structures.
    """
    wrong = []
    for i, atoms in enumerate(compared.structures):
        stress, predicted = label_of(atoms, "stress"), compared.stress[i]
        if stress is None or predicted is None or np.abs(stress).max() > 0:
            continue
        if np.abs(predicted).max() > 10 * FLOORS["stress"]:
            wrong.append(i)
    if not wrong:
        return [], []
    said = f"zero in {len(wrong)} of {len(compared)} structures"
    return wrong, [Found("stress_zero", frames_of(compared, wrong), said)]


def constant(quantity: Label, compared: Compared) -> list[Found]:
    """Return structures of one formula that share a label where their predictions differ.

    Of forces, also those that are one vector on all atoms.

    Args:
        quantity: energy, forces or stress.
        compared: The structures, without those whose label is zero.
    """
    having = compared.having(quantity)
    groups = defaultdict(list)
    alike = []
    for i, atoms in enumerate(having.structures):
        label = label_of(atoms, quantity)
        assert label is not None
        groups[(formula_of(atoms), np.asarray(label).tobytes())].append(i)
        if quantity == "forces" and len(atoms) > 1 and np.ptp(label, axis=0).max() < STILL:
            alike.append(i)
    for (formula, _), members in groups.items():
        if len(members) >= SEVERAL and _differ(quantity, having, members):
            n = sum(formula_of(x) == formula for x in having.structures)
            said = f"equal in {len(members)} of {n} structures of {formula}"
            return [Found(f"{quantity}_constant", frames_of(having, members), said)]
    if alike:
        said = f"one vector on all atoms in {len(alike)} of {len(having)} structures"
        return [Found("forces_constant", frames_of(having, alike), said)]
    return []


def _differ(quantity: Label, compared: Compared, members: list[int]) -> bool:
    """Return True where the predictions for some structures of one formula differ."""
    floor = FLOORS[quantity]
    if quantity == "energy":
        return float(np.ptp(compared.energy[members])) > floor * len(
            compared.structures[members[0]]
        )
    values = compared.forces if quantity == "forces" else compared.stress
    spread = np.ptp(np.array([values[i] for i in members], dtype=float), axis=0)
    return float(spread.max()) > 10 * floor


def differences(compared: Compared, settings: Audit) -> tuple[dict[int, str], dict[int, str]]:
    """Return structures whose energies, and whose forces, are far from the predicted ones.

    Args:
        compared: The structures.
        settings: The thresholds.

    Returns:
        {number: what was measured} of each; frames that are far off bend no other.
    """
    energies, forces = {}, {}
    having = [i for i, x in enumerate(compared.structures) if label_of(x, "energy") is not None]
    if len(having) > SEVERAL:
        some = compared.only(having)
        labels = np.array([atoms_energy(x) for x in some.structures])
        left = energies_left(some.structures, labels - some.energy, settings.outlier)
        z = robust_z(left, LEAST_ENERGY / settings.outlier)
        for i in np.flatnonzero(z > settings.outlier):
            energies[having[i]] = f"energy {left[i]:+.3g} eV/atom from the predicted one"
    having = [i for i, x in enumerate(compared.structures) if label_of(x, "forces") is not None]
    rms = np.array([_off(compared, i) for i in having])
    for i in np.flatnonzero(robust_z(rms, LEAST_FORCE / settings.outlier) > settings.outlier):
        forces[having[i]] = f"forces {rms[i]:.3g} eV/Å (RMS) from the predicted ones"
    return energies, forces


def _off(compared: Compared, i: int) -> float:
    label = label_of(compared.structures[i], "forces")
    assert label is not None
    return float(np.sqrt(np.mean(np.square(label - compared.forces[i]))))


def wrong_frames(compared: Compared, settings: Audit) -> tuple[list[int], list[Found]]:
    """Return single structures whose forces have a wrong unit or sign, while others have not.

    A structure is judged alone where its own correlation is certain and its forces are not small.
    Where nearly all are wrong, the unit is that of the file, and none is named.

    Args:
        compared: The structures, without those whose forces are zero.
        settings: The thresholds.
    """
    sizes = [float(np.sqrt(np.mean(np.square(x)))) for x in compared.forces]
    least = LARGE * float(np.median(sizes)) if sizes else 0.0
    by_name, wrong, judged = defaultdict(list), set(), 0
    for i, atoms in enumerate(compared.structures):
        label = label_of(atoms, "forces")
        if label is None or sizes[i] < least:
            continue
        own = fit(label, compared.forces[i], max(0, 3 * len(atoms) - 6))
        if own.least < settings.least_correlation:
            continue
        judged += 1
        for name in _names(own):
            by_name[name].append(i)
            wrong.add(i)
    if len(wrong) > MOST * judged:
        return [], []
    found = []
    for name, members in by_name.items():
        said = f"of another size or sign than the rest in {len(members)} of {judged} structures"
        sure = len(members) >= SEVERAL
        found.append(Found(name, frames_of(compared, members), said, sure))
    return sorted(wrong), found


def _names(own: Fit) -> list[str]:
    """Return the unit and sign that the forces of one structure may have in place of ours."""
    found = ["forces_sign"] if own.slope < 0 else []
    rows = [row for row in units_of("forces") if row.name != "forces_sign" and _is_far(row)]
    nearest = min(rows, key=lambda row: distance(own.slope, row))
    if distance(own.slope, nearest) < reach(nearest.factor or 1.0):
        found.append(nearest.name)
    return found


def _is_far(row: Finding) -> bool:
    """Return True for a unit that a single structure can be told by."""
    return row.factor is not None and not 1 / ODD < row.factor < ODD


def frames_of(compared: Compared, members: Sequence[int]) -> str:
    """Return files and frames of some structures in words.

    Args:
        compared: The structures.
        members: Their numbers.
    """
    return named([where(compared.structures[i], "data", i) for i in members])
