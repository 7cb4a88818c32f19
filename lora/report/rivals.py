"""Say how LoRA stands against its rivals: in errors, and in what was forgotten.

LoRA stands for the best kind of adapter; the other kinds of the grid are rivals.

A side is called better only where the seeds show it, its settings were not tried in larger number
than the other's, and neither side was still improving when its trainings ended.
"""

from collections.abc import Sequence

from lora.catalogue.columns import BY_KEY
from lora.catalogue.methods import ADAPTERS
from lora.plan.points import FOUNDATION, PROTOCOLS, kind_of
from lora.report.comparison import Errors, Spread, compare
from lora.selection.choose import Choice, Verdicts

WORTH = 0.8  # of the forgetting that a protocol has to get below, to be worth an error
TITLES = {
    "foundation": "the foundation model",
    "full": "full fine-tuning",
    "full_replay": "full fine-tuning with replay",
    "freeze": "freezing",
}
# other kinds of adapters have their own names
LORA = {kind_of("lora", protocol): "LoRA" for protocol in PROTOCOLS}
PROTOCOL_OF = {kind_of(x, protocol): protocol for x in ADAPTERS for protocol in PROTOCOLS}
UNPROVED = {"better": "lower", "worse": "higher"}  # what is left of a verdict that is not fair


def side(errors: Errors, group: str) -> str:
    """Return the method of a group in words.

    Args:
        errors: The errors of every group.
        group: The group.
    """
    kind = errors.kind_of(group)
    return (TITLES | LORA).get(kind, kind)


def against(errors: Errors, lora: str, kind: str) -> list[str]:
    """Return LoRA against the best of a kind of baseline on every test set, and who is ahead.

    Args:
        errors: The errors of every group.
        lora: The best group of LoRA.
        kind: The kind of baseline.
    """
    rivals = errors.of_kind(kind)
    if not rivals:
        return []
    rival, sides = rivals[0], {"better": (lora, rivals[0]), "worse": (rivals[0], lora)}
    why = {verdict: _unfair(errors, *pair) for verdict, pair in sides.items()}
    tests, metric = errors.measured
    parts, found, said = [], {}, set()
    for s in tests:
        one, other = (errors.of(x, s, metric) for x in (lora, rival))
        seen = compare(one, other, _comparisons(errors, lora, rival) * len(tests))
        found[s] = seen or ("worse" if one.mean > other.mean else "")
        said.add(why.get(found[s], ""))
        shown = UNPROVED[seen] if why.get(seen) else seen
        parts.append(
            f"{s} {one.text(1)} against {other.text(1)}" + (f" ({shown})" if shown else "")
        )
    best = f", the best of {len(rivals)} settings" if len(rivals) > 1 else ""
    what = BY_KEY[metric]
    title = f"{what.label[0].upper()}{what.label[1:]} ({what.unit})"
    line = f"{title} of {lora} against {rival}{best}: {', '.join(parts)}."
    lost = [s for s, verdict in found.items() if verdict == "worse"]
    one_seed = errors.of(lora, tests[0], metric).n == 1
    if one_seed and all(errors.close(lora, rival, s, metric) for s in tests):
        return [line, _level(errors, lora, rival, lost)]
    if lost and not why["worse"]:
        line += f" {side(errors, lora)} loses to {rival} on: {', '.join(lost)}."
    return [line, *(f"This does not show which is better: {x}." for x in sorted(said - {""}))]


def forgetting(errors: Errors, choice: Choice, groups: Sequence[str]) -> list[str]:
    """Say what some groups forgot of the foundation model's own level of theory.

    Args:
        errors: The errors of every group.
        choice: The decision, with the verdicts of the checks.
        groups: The groups to name.
    """
    found = _forgotten(errors, choice.verdicts)
    named = [x for x in dict.fromkeys(groups) if x in found]  # the chosen may be a rival, too
    parts = [f"{x} {found[x].text(1)}" for x in named]
    if not parts:
        return []
    lines = [
        "Force error at the foundation model's own level of theory, in multiples of its own: "
        f"{', '.join(parts)}."
    ]
    lora = errors.group_of[choice.lora] if choice.lora else ""
    for rival in named:
        title = TITLES.get(errors.kind_of(rival))
        if title is None or lora not in found:
            continue
        seen = compare(found[lora], found[rival], _comparisons(errors, lora, rival))
        what = {"better": "less than", "worse": "more than"}.get(seen)
        sides = (lora, rival) if seen == "better" else (rival, lora)
        if what and not _unfair(errors, *sides):
            name = side(errors, lora)
            lines.append(f"{name} forgets {what} {title}, beyond the spread over seeds.")
    return lines


def protocols_and_lora(errors: Errors, choice: Choice) -> list[str]:
    """Say whether replay, or keep, pays for the best LoRA settings: what it saves and costs.

    MACE's guidance advises against replay with LoRA; here the numbers of the sweep speak.

    Args:
        errors: The errors of every group.
        choice: The decision, with the verdicts of the checks.
    """
    table = errors.table
    plain = table.loc[table["point"] == choice.lora, "plain"]
    same = table[table["plain"].isin(plain) & table["group"].isin(errors.groups)]
    groups = list(dict.fromkeys(same["group"]))
    if not {*plain} <= {*groups}:
        return []
    without = str(plain.iloc[0])
    return [_protocol(errors, choice, x, without) for x in groups if x != without]


def _protocol(errors: Errors, choice: Choice, with_it: str, without: str) -> str:
    """Say what a group forgot and costs, against the same settings on the new data alone."""
    ((test_set, *_), metric), found = errors.measured, _forgotten(errors, choice.verdicts)
    costs = (errors.of(with_it, test_set, metric), errors.of(without, test_set, metric))
    cost, what = " against ".join(x.text(1) for x in costs), BY_KEY[metric]
    name = side(errors, without)
    said = " and ".join(PROTOCOL_OF[errors.kind_of(with_it)].names).capitalize()
    line = f"{said} with {name}, {with_it} against {without}: {test_set} {what.label}"
    line += f" {cost} {what.unit}"
    if not {with_it, without} <= {*found}:
        return f"{line}; forgetting was not measured (it needs checks.holdout_file)."
    after, before = found[with_it], found[without]
    line += (
        f", forgetting {after.text(1)} against {before.text(1)} times the foundation model's error."
    )
    seen = compare(*costs)
    worse = seen == "worse" or (not seen and costs[0].mean > costs[1].mean)
    if worse and after.mean > before.mean * WORTH:
        line += f" The error is higher and little is kept: with {name} it does not pay here."
    return line


def _comparisons(errors: Errors, one: str, other: str) -> int:
    """Return how many pairs of settings two groups are the best pair of."""
    return errors.tried(one) * errors.tried(other)


def _unfair(errors: Errors, winner: str, loser: str) -> str:
    """Return why the winner of a comparison cannot be called better; "" where it can."""
    reasons: list[str] = []
    if FOUNDATION.kind in map(errors.kind_of, (winner, loser)):  # it has neither settings nor end
        return ""
    more, fewer = errors.tried(winner), errors.tried(loser)
    if more > fewer:
        names = [side(errors, x) for x in (winner, loser)]
        reasons.append(f"{names[0]} had {more} settings, {names[1]} {fewer}")
    still, of = errors.improving(winner, loser)
    if still:
        reasons.append(f"{still} of the {of} trainings compared were still improving at their end")
    return "; ".join(reasons)


def _level(errors: Errors, lora: str, rival: str, lost: list[str]) -> str:
    """Say that one seed does not tell LoRA and a rival apart, and whose error is lower where."""
    name, title = side(errors, lora), side(errors, rival)
    won = [s for s in errors.measured[0] if s not in lost]
    lower = [
        f"{who} has the lower error on {', '.join(x)}"
        for who, x in ((name, won), (title, lost))
        if x
    ]
    return f"With one seed, {name} and {title} cannot be told apart: {'; '.join(lower)}."


def _forgotten(errors: Errors, verdicts: Verdicts) -> dict[str, Spread]:
    """Return the forgetting of each group over its seeds, a multiple of the foundation's error."""
    values = {
        point: one.compared
        for point, found in verdicts.items()
        if (one := found.get("forgetting")) and one.compared is not None
    }
    return errors.of_points(values)
