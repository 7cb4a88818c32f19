"""Race groups of points: stop early what cannot win, and give the epochs to what can.

    rung 1     every group, with its first seed, to epoch e1
    rung 2     what is left of them, to epoch e2
    ...
    the end    the finalists, with all seeds, to the last epoch

At a rung, the score of a group is the natural logarithm of its error, so that a difference is
relative:

    s = mean over its seeds of ln(error of the best epoch so far)

The best share of the groups goes on (successive halving; Jamieson and Talwalkar, arXiv 1502.07943),
at the last rung a given number of finalists; and so does every group whose score is within some
multiples of the noise of the last of those.

A group here is a setting with its seeds, and an error is that of the validation set.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Curves = Mapping[int, Sequence[float]]  # {seed: error of the best epoch so far, after each epoch}
WINDOW = 5  # epochs before a rung whose steps tell of the noise


@dataclass(frozen=True)
class Rung:
    """What was decided at a rung.

    Attributes:
        epoch: The epoch after which groups were compared.
        scores: {group: its score}, the best first.
        noise: The standard deviation of a difference of two scores.
        cut: The highest score that goes on.
        kept: The groups that go on, the best first.
    """

    epoch: int
    scores: dict[str, float]
    noise: float
    cut: float
    kept: tuple[str, ...]

    def behind(self, group: str) -> float:
        """Return by how much, relatively, the error of a group was above that of the best."""
        return math.exp(self.scores[group] - min(self.scores.values())) - 1


def compare(
    curves: Mapping[str, Curves], epoch: int, room: int, margin: float, most: int | None = None
) -> Rung:
    """Decide which groups go on after an epoch.

    Args:
        curves: The curves of every group that is still in the race; one that ended early keeps its
            last error.
        epoch: The epoch.
        room: How many go on, noise apart.
        margin: What lies within this many times the noise of the last of them goes on, too.
        most: How many go on at most, with those; None is no limit.
    """
    unsorted = {group: score(seeds, epoch) for group, seeds in curves.items()}
    scores = dict(sorted(unsorted.items(), key=lambda item: item[1]))
    noise = noise_of(curves, epoch)
    cut, kept = going_on(scores, room, margin * noise, most)
    return Rung(epoch, scores, noise, cut, kept)


def going_on(
    scores: Mapping[str, float], room: int, margin: float, most: int | None = None
) -> tuple[float, tuple[str, ...]]:
    """Return the highest score that goes on, and the groups that do.

    Args:
        scores: {group: its score}, the best first.
        room: How many go on, noise apart.
        margin: What lies within this of the last of them goes on, too.
        most: How many go on at most, with those; None is no limit.
    """
    cut = list(scores.values())[room - 1] + margin
    kept = [group for i, (group, s) in enumerate(scores.items()) if i < room or s <= cut < math.inf]
    return cut, tuple(kept[:most])


def score(seeds: Curves, epoch: int) -> float:
    """Return the score of a group after an epoch; infinite where an error is not a number.

    Args:
        seeds: Its curves.
        epoch: The epoch.
    """
    errors = np.array([_at(curve, epoch) for curve in seeds.values()])
    return float(np.log(errors).mean()) if np.isfinite(errors).all() else math.inf


def noise_of(curves: Mapping[str, Curves], epoch: int) -> float:
    """Estimate the standard deviation of a difference of two scores that is chance alone.

    Where groups have several seeds, it is that of the seeds: of each seed the mean over the groups
    is taken away, because batches and starts are shared between groups.  Where they have one, it
    is that of the steps from one epoch to the next, about their mean: a curve that jumps says less.

    Args:
        curves: The curves of each group.
        epoch: The epoch of the comparison.

    Returns:
        The noise, in natural logarithms of errors; 0 where nothing can be said.
    """
    curves = {g: x for g, x in curves.items() if math.isfinite(score(x, epoch))}
    seeds = set.intersection(*(set(x) for x in curves.values())) if curves else set()
    if len(seeds) > 1 and len(curves) > 1:
        values = np.log([[_at(x[s], epoch) for s in sorted(seeds)] for x in curves.values()])
        left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        degrees = (values.shape[0] - 1) * (values.shape[1] - 1)
        return float(np.sqrt(2 * (left**2).sum() / degrees / len(seeds)))
    jumps = []
    for group in curves.values():
        for curve in group.values():
            errors = np.log(np.asarray(curve[max(0, epoch - WINDOW) : epoch + 1], dtype=float))
            if len(errors) > 2:
                jumps.append(np.diff(errors).std(ddof=1))
    return float(np.sqrt(2) * np.median(jumps)) if jumps else 0.0


def best_so_far(history: Sequence[Mapping[str, Any]], error: str) -> list[float]:
    """Return, after each epoch, the error of the epoch with the lowest loss until then.

    Args:
        history: A line an epoch, as metrics.jsonl holds them.
        error: Its key; not a number where the validation set has no such label.
    """
    errors, best = [], history[0]
    for line in history:
        if line["valid_loss"] < best["valid_loss"]:
            best = line
        errors.append(math.nan if best[error] is None else float(best[error]))
    return errors


def _at(curve: Sequence[float], epoch: int) -> float:
    return curve[min(epoch, len(curve) - 1)]
