"""Part the settings with adapters into planes: those that differ in rank, alpha and rates alone.

A sweep over kinds of adapters, starts or placements has a plane for each combination of them.
"""

from dataclasses import dataclass

from lora.catalogue.columns import BY_KEY, VALID
from lora.catalogue.methods import ADAPTERS
from lora.plan.points import PROTOCOLS, kind_of
from lora.report.comparison import Errors
from lora.selection.table import axes_of


@dataclass(frozen=True)
class Plane:
    """The settings of one kind of adapter, start and placement.

    Attributes:
        title: What it has of the axes that vary: "dora, start pissa"; "" where none does.
        groups: Its groups, the lowest error on the validation set first.
    """

    title: str
    groups: list[str]


def adapted(errors: Errors) -> list[str]:
    """Return the groups with adapters, on all data and on nothing else, the lowest error first.

    Args:
        errors: The errors of every group.
    """
    found = {group for kind in ADAPTERS for group in errors.of_kind(kind)}
    return [group for group in errors.groups if group in found]


def other_kinds(errors: Errors, group: str) -> list[str]:
    """Return the kinds of adapters but that of a group.

    Args:
        errors: The errors of every group.
        group: A group with adapters; of any other, all kinds are returned.
    """
    own = errors.kind_of(group)
    return [x for x in ADAPTERS if own not in {kind_of(x, protocol) for protocol in PROTOCOLS}]


def planes_of(errors: Errors) -> list[Plane]:
    """Return the planes of a sweep, that with the lowest error first; none without adapters.

    Args:
        errors: The errors of every group.
    """
    axes = axes_of(errors.table)
    values = errors.table.drop_duplicates("group").set_index("group")[axes]
    planes: dict[str, list[str]] = {}
    for group in adapted(errors):
        own = zip(axes, values.loc[group], strict=True)
        title = ", ".join(f"{axis} {x}" for axis, x in own)
        planes.setdefault(title, []).append(group)
    return [Plane(title, groups) for title, groups in planes.items()]


def best_of_axes(errors: Errors) -> list[str]:
    """Return a sentence an axis that varies: the lowest error of each of its values.

    Args:
        errors: The errors of every group.
    """
    values = errors.table.drop_duplicates("group").set_index("group")
    what, lines = BY_KEY[errors.metric], []
    for axis in axes_of(errors.table):
        best: dict[str, str] = {}
        for group in adapted(errors):
            best.setdefault(str(values.loc[group, axis]), group)
        said = [
            f"{value} {errors.of(group, VALID, errors.metric).text(1)} ({group})"
            for value, group in best.items()
        ]
        if len(said) > 1:
            heading = f"lowest {what.heading} on the validation set"
            lines.append(f"The {heading} of each {axis}: {', '.join(said)}.")
    return lines
