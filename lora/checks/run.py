"""The checks by name, and how they are run on a potential."""

import logging
import time
from importlib import import_module
from typing import Any

from ase import Atoms

from lora.calculators.potential import Potential
from lora.catalogue.checks import BY_NAME, Check
from lora.checks.base import N_STRUCTURES, NotCheckedError, Sample
from lora.data.structures import bare, elements_of
from lora.errors import UserError

log = logging.getLogger(__name__)
Measured = tuple[float, dict[str, Any]]


def measure(row: Check, potential: Potential, sample: Sample, **settings: Any) -> Measured:
    """Run the function that a row of the catalogue names."""
    module, _, name = row.function.partition(":")
    found: Measured = getattr(import_module(module), name)(potential, sample, **settings)
    return found


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


def run(potential: Potential, sample: Sample, names: list[str]) -> dict[str, Any]:
    """Run some checks on a potential: {"checks": ..., "not_checked": {name: why}}."""
    done, skipped = {}, {}
    for name in names:
        one, started = BY_NAME[name], time.perf_counter()
        try:
            value, detail = measure(one, potential, sample, **sample.settings.get(name, {}))
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
