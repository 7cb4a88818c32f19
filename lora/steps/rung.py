"""Step `rung`: compare the settings of a race, and say who goes on, in which packs.

train/rungs/{rung}.json
"""

import math
from typing import Any

from lora.catalogue.columns import ENERGY, FORCE
from lora.catalogue.endings import Ending
from lora.errors import UserError
from lora.files.history import read_history
from lora.files.sealed import Receipt
from lora.plan.race import Heat, assign, pack_at
from lora.plan.sweep import Sweep
from lora.selection.race import Curves, Rung, best_so_far, compare, score
from lora.selection.results import Found, gather, intact, read_receipts
from lora.selection.verdict import judge

ERRORS = {"f": f"valid_{FORCE}", "e": f"valid_{ENERGY}"}  # by the quantity of select.metric
LOSS = "valid_loss"


def rung(sweep: Sweep, number: int, receipt: Receipt) -> None:
    """Write who goes on.

    Args:
        sweep: The sweep.
        number: Of the rung, from 1.
        receipt: Where to write {"error": what was compared, "heats": {name: scores, noise, cut,
            kept, stopped: {group: why}}, "packs": {pack of the next leg: its points}}.

    Raises:
        UserError: A receipt of a training, or its epochs, are missing or damaged.
    """
    trained = read_receipts(sweep, f"rung/{number}", "train")
    error = ERRORS[sweep.config.select.metric.split("_")[1]]
    if any(result["best"][error] is None for result in trained.values() if "best" in result):
        error = LOSS  # the validation set has no such label
    refused = _refused(sweep, number)
    heats: dict[str, Any] = {}
    packs: dict[str, list[str]] = {}
    for name, heat in sweep.heats.items():
        found = _compare(sweep, heat, number, trained, error, refused)
        kept = [group for group in heat.groups if group in found.kept]
        stopped = {x: _why(found, heat, x, refused) for x in found.scores if x not in kept}
        heats[name] = {
            "epoch": found.epoch,
            "scores": {x: s if math.isfinite(s) else None for x, s in found.scores.items()},
            "noise": found.noise,
            "cut": found.cut if math.isfinite(found.cut) else None,
            "kept": kept,
            "stopped": stopped,
        }
        packs |= assign(heat, number + 1, kept, sweep.packs)
    receipt.write({"error": error, "heats": heats, "packs": packs})


def _refused(sweep: Sweep, number: int) -> dict[str, str]:
    """Return the points that are over a limit of a check at a rung, with the verdict in words."""
    found = read_receipts(sweep, f"rung/{number}", "probe")
    limits = sweep.config.select.limits.given()
    verdicts = judge({x: gather([found], x) for x in found}, limits)
    over = {x: [v.text() for v in one.values() if not v.passed] for x, one in verdicts.items()}
    return {x: ", ".join(texts) for x, texts in over.items() if texts}


def _compare(
    sweep: Sweep, heat: Heat, number: int, trained: Found, error: str, refused: dict[str, str]
) -> Rung:
    """Compare the settings of a heat that have come to a rung.

    Those over a limit have no score, but for the best of them where too few are left without.
    """
    curves: dict[str, Curves] = {}
    over: list[str] = []
    for group, points in heat.groups.items():
        ran = {seed: x.name for seed, x in points.items() if x.name in trained}
        if ran:
            curves[group] = {
                seed: _curve(sweep, x, number, trained[x], error) for seed, x in ran.items()
            }
        over += [group] if refused.keys() & set(ran.values()) else []
    n, at, epoch = len(curves), number - 1, heat.epoch(number)
    room, most = (rule(n, at, heat.ranks) for rule in (heat.rules.room, heat.rules.most))
    scores = {group: score(seeds, epoch) for group, seeds in curves.items()}
    left = sum(math.isfinite(s) for group, s in scores.items() if group not in over)
    over.sort(key=scores.__getitem__)
    for group in over[max(0, room - left) :]:
        curves[group] = {seed: [math.inf] for seed in curves[group]}
    return compare(curves, epoch, room, heat.rules.margin, most)


def _curve(
    sweep: Sweep, point: str, number: int, result: dict[str, Any], error: str
) -> list[float]:
    """Return the error of the best epoch so far, after each; of a failed training no number."""
    if result["ended_by"] == Ending.FAILED:
        return [math.inf]
    epochs = intact(sweep.layout.training(point, number) / "metrics.jsonl")
    if not (history := read_history(epochs)):
        receipt = sweep.layout.receipt("train", pack_at(sweep.packs, point, number))
        raise UserError(f"{epochs}: no such file. Delete {receipt}, then run snakemake again.")
    return best_so_far(history, error)


def _why(found: Rung, heat: Heat, group: str, refused: dict[str, str]) -> str:
    """Return why a setting was stopped, in words."""
    at = f"at epoch {found.epoch} of {heat.longest}"
    if over := [refused[x.name] for x in heat.groups[group].values() if x.name in refused]:
        return f"{at} it was over a limit: {over[0]}"
    if not math.isfinite(found.scores[group]):
        return f"{at} its training had failed"
    return (
        f"{at}, {100 * found.behind(group):.0f} % above the best of {len(found.scores)}, of which "
        f"{len(found.kept)} went on"
    )
