"""The checks by name, and how they are run on a potential."""

import logging
import time
from typing import Any

from ase import Atoms

from lora.checks.base import N_STRUCTURES, Check, NotCheckedError, Sample
from lora.checks.curves import dimers, equation_of_state
from lora.checks.dynamics import energy_drift, heating
from lora.checks.forgetting import forgetting
from lora.checks.holes import holes
from lora.checks.invariants import atoms_alone, extensivity, gradients, locality, symmetry
from lora.data.structures import bare, elements_of
from lora.errors import UserError

log = logging.getLogger(__name__)
HOLES = "arXiv 2606.12704"
CHECKS = {
    check.name: check
    for check in (
        Check(
            *("forgetting", forgetting, "meV/Å", 10.0, "ratio"),
            "force RMSE on structures of the foundation model's own level, against its own",
            HOLES,
        ),
        Check(
            *("gradients", gradients, "eV/Å", 1e-4, "absolute"),
            "forces against finite differences of the energy",
        ),
        Check(
            *("symmetry", symmetry, "eV, eV/Å", 1e-6, "absolute"),
            "change under rotation, reflection, translation, permutation",
        ),
        Check(
            *("extensivity", extensivity, "eV", 1e-6, "absolute"),
            "energy of two copies far apart against twice one",
        ),
        Check(
            *("locality", locality, "eV/Å", 1e-9, "absolute"),
            "change of forces when an atom beyond the model's reach moves",
        ),
        Check(
            *("atoms", atoms_alone, "eV", 0.01, "excess"),
            "energy of free atoms against the E0s",
        ),
        Check(
            *("dimers", dimers, "faults", 1.0, "excess"),
            "pairs of elements without a repulsive wall, with a second minimum, or with a jump",
        ),
        Check(
            *("eos", equation_of_state, "crystals", 0.0, "excess"),
            "crystals whose energy over volume has more than one minimum",
        ),
        Check(
            *("nve", energy_drift, "meV/atom/ps", 1.0, "absolute"),
            "drift of the energy in MD at constant energy",
        ),
        Check(
            *("heating", heating, "failures", 0.0, "excess"),
            "runs with a rising temperature that fall apart, collapse or explode",
        ),
        Check(
            *("holes", holes, "%", 0.0, "excess"),
            "random structures that relax into a collapse or far below the data",
            HOLES,
        ),
    )
}


def make_sample(
    structures: list[Atoms],
    holdout: list[Atoms],
    e0s: dict[str, float],
    settings: dict[str, dict[str, Any]],
) -> Sample:
    """A few structures from all over the set, a crystal a composition, and the rest as it is."""
    plain = [bare(atoms) for atoms in structures]
    crystals = {str(a.symbols): a for a in plain if a.pbc.all()}
    few = plain[:: max(1, len(plain) // N_STRUCTURES)][:N_STRUCTURES]
    return Sample(
        few, elements_of(plain), holdout, e0s, list(crystals.values())[:N_STRUCTURES], settings
    )


def run(potential: Any, sample: Sample, names: list[str]) -> dict[str, Any]:
    """Run some checks on a potential: {"checks": ..., "not_checked": {name: why}}."""
    done, skipped = {}, {}
    for name in names:
        one, started = CHECKS[name], time.perf_counter()
        try:
            value, detail = one.run(potential, sample, **sample.settings.get(name, {}))
        except NotCheckedError as reason:
            skipped[name] = str(reason)
            continue
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise UserError(f"checks.{name}: {str(error).split('() ')[-1]}") from None
        facts = {k: getattr(one, k) for k in ("unit", "limit", "compare", "meaning", "source")}
        seconds = round(time.perf_counter() - started, 2)
        done[name] = {"value": value, **facts, "detail": detail, "seconds": seconds}
        log.info("%-12s %10.3g %-12s %6.1f s", name, value, one.unit, seconds)
    return {"checks": done, "not_checked": skipped}
