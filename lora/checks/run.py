"""Run checks by name on a potential."""

import time
from typing import Any

from ase import Atoms

from lora.calculators.potential import Potential
from lora.catalogue.checks import BY_NAME, Check
from lora.catalogue.named import resolve
from lora.checks.base import N_STRUCTURES, NotCheckedError, Sample
from lora.data.structures import bare, elements_of
from lora.errors import UserError

N_RANGES = 100  # structures, or somewhat more, that distances of pairs are taken from

Measured = tuple[float, dict[str, Any]]


def measure(row: Check, potential: Potential, sample: Sample, **settings: Any) -> Measured:
    """Run the function that a row of the catalogue names.

    Args:
        row: The row; its defaults hold for the arguments that `settings` leaves out.
        potential: The potential to check.
        sample: The structures to check it on.
        **settings: Arguments of the function.

    Returns:
        The number, lower is better, and details for the JSON file.

    Raises:
        NotCheckedError: The sample has nothing to check on.
        UserError: The check does not take one of the arguments.
    """
    defaults = {setting.name: setting.default for setting in row.settings}
    for name in settings:
        if name not in defaults:
            known = f"; use {', '.join(defaults)}" if defaults else ""
            raise UserError(f"checks.settings.{row.name}: there is no setting {name}{known}")
    found: Measured = resolve(row.function)(potential, sample, **defaults | settings)
    return found


def make_sample(
    structures: list[Atoms],
    holdout: list[Atoms],
    e0s: dict[str, float],
    settings: dict[str, dict[str, Any]],
) -> Sample:
    """Return what the checks work on.

    Args:
        structures: The validation set; a few from all over it are taken, and of the periodic ones
            a crystal of each composition.
        holdout: Labelled structures of the foundation model's own level of theory, or none.
        e0s: E0s of that level, {symbol: eV}.
        settings: {check: {argument: value}} over the defaults of each.
    """
    plain = [bare(atoms) for atoms in structures]
    crystals = {str(a.symbols): a for a in plain if a.pbc.all()}
    few = plain[:: max(1, len(plain) // N_STRUCTURES)][:N_STRUCTURES]
    many = plain[:: max(1, len(plain) // N_RANGES)]
    return Sample(
        few,
        elements_of(plain),
        holdout,
        e0s,
        list(crystals.values())[:N_STRUCTURES],
        settings,
        many,
    )


def run_checks(potential: Potential, sample: Sample, names: list[str]) -> dict[str, Any]:
    """Run some checks on a potential.

    Args:
        potential: The potential.
        sample: The structures to check it on, and settings.
        names: The checks, names of `lora.catalogue.checks`.

    Returns:
        {"checks": {name: {"value", "unit", "limit", "compare", "meaning", "source", "detail",
        "seconds"}}, "not_checked": {name: why}}; models that are checked together take those
        seconds together.

    Raises:
        UserError: A check does not take one of its settings.
    """
    done, skipped = {}, {}
    for i, name in enumerate(names):
        one, started = BY_NAME[name], time.perf_counter()
        sample.meter.at(name, i, len(names), "checks")
        try:
            value, detail = measure(one, potential, sample, **sample.settings.get(name, {}))
        except NotCheckedError as reason:
            skipped[name] = str(reason)
            continue
        known = {k: getattr(one, k) for k in ("unit", "limit", "compare", "meaning", "source")}
        seconds = round(time.perf_counter() - started, 2)
        done[name] = {"value": value, **known, "detail": detail, "seconds": seconds}
    return {"checks": done, "not_checked": skipped}
