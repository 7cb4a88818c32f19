"""Decide which packs are merged, evaluated and checked in one process: a bundle.

Full fine-tuning and freezing train a point at a time, so that their packs have one point.  What
comes after costs such a pack mostly a start, and models of one kind compute together: so packs of
one point are taken up to four at a time, those of one kind.  Every other pack is a bundle by
itself.  Bundles stay as they are when a sweep grows; where a pack leaves one, what is left of it is
judged again.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lora.plan.layout import Layout
from lora.plan.packs import MOST, Pack


def in_bundles(
    packs: Mapping[str, Pack], known: Mapping[str, str], layout: Layout
) -> dict[str, Pack]:
    """Return packs with the names of their bundles; of a race, those that go to the end have one.

    Args:
        packs: all packs of the sweep
        known: {pack: bundle} of an earlier start; they stay
        layout: the paths of the sweep; a pack that was merged by itself before stays so
    """
    ending = {name: pack for name, pack in packs.items() if pack.ends}
    bundles = {name: known.get(name) or name for name in ending}
    judged = {x.stem for x in layout.receipt("merge", "x").parent.glob("*.json")}
    new: dict[str, list[str]] = {}
    for name, pack in ending.items():
        one = pack.trains and pack.places == 1
        if one and not known.get(name) and name not in judged:
            new.setdefault(_kind(pack), []).append(name)
    for kind, names in new.items():
        if len(names) > 1:
            bundles |= _bundled(kind, names, {*known.values(), *judged})
    return {name: replace(x, bundle=bundles.get(name, "")) for name, x in packs.items()}


def _kind(pack: Pack) -> str:
    return f"{pack.leg.heat}_end" if pack.leg else pack.points[0].kind


def _bundled(kind: str, names: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """Return the bundle of each of some packs; bundles have nearly equal sizes."""
    free = (x for n in itertools.count(1) if (x := f"{kind}_{n}") not in taken)
    n = -(-len(names) // MOST)
    chosen = list(itertools.islice(free, n))
    return {name: chosen[i * n // len(names)] for i, name in enumerate(names)}


def bundles_of(packs: Mapping[str, Pack]) -> dict[str, list[Pack]]:
    """Return the packs of every bundle, by its name.

    Args:
        packs: all packs of the sweep
    """
    found: dict[str, list[Pack]] = {}
    for pack in packs.values():
        if pack.bundle:
            found.setdefault(pack.bundle, []).append(pack)
    return found
