"""What won and by how much, in words."""

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind_from_stats

from lora.selection.table import LABELS, by_setting, setting_of
from lora.selection.verdict import Verdict

ENERGY, FORCE = "rmse_e_mev_per_atom", "rmse_f_mev_per_a"
SHOWN = 6  # refused points that are named
WORTH = 0.8  # of the forgetting that replay has to get below, to be worth an error
CHANCE = 0.05  # of a difference by the seeds alone, under which it is called one


class Errors:
    """Mean and spread over seeds of each setting on each set."""

    def __init__(self, table: pd.DataFrame, metric: str) -> None:
        self.metric, self.table = metric, table
        metrics = list(dict.fromkeys([ENERGY, FORCE, metric]))
        self.found = by_setting(table, metrics)
        self.sets = list(dict.fromkeys(table["test_set"]))
        self.tests = [s for s in self.sets if s != "valid"] or self.sets
        rank = self.found.xs("valid", level="test_set")[(metric, "mean")].sort_values()
        self.settings = list(rank.dropna().index)  # best first; what failed is not there

    def of(self, setting: str, test_set: str, metric: str) -> tuple[float, float, int]:
        mean, std, n = self.found.loc[(setting, test_set), metric].tolist()
        return float(mean), float(std), int(n)

    def text(self, setting: str, test_set: str, metric: str, digits: int) -> str:
        """63.3 ± 1.2, or without a spread where there is one seed."""
        mean, std, n = self.of(setting, test_set, metric)
        return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if n > 1 else "")

    def versus(self, one: str, other: str, test_set: str, metric: str) -> str:
        """better, worse, or equal within what the seeds tell (Welch's t-test, 5 %); "" with one."""
        (a, sa, na), (b, sb, nb) = (self.of(x, test_set, metric) for x in (one, other))
        if min(na, nb) < 2:
            return ""
        if sa + sb > 0:
            p = ttest_ind_from_stats(a, sa, na, b, sb, nb, equal_var=False).pvalue
            if not p < CHANCE:
                return "equal"
        return "equal" if a == b else "better" if a < b else "worse"


def words(
    errors: Errors,
    best: str,
    best_lora: str | None,
    refused: dict[str, list[Verdict]] | None = None,
    forgotten: list[str] | None = None,
) -> list[str]:
    """What won and by how much, what was refused, and how LoRA stands against the baselines.

    refused: {point: the verdicts that it failed}
    forgotten: what there is to say of forgetting, see `forgetting`
    """
    metric, chosen = errors.metric, setting_of(best)
    n = errors.of(chosen, "valid", metric)[2]
    value = errors.text(chosen, "valid", metric, 1)
    seeds = f", mean of {n} seeds; {best} is the best of them" if n > 1 else ""
    rule = f"the lowest {LABELS[metric]} on the validation set, {value}{seeds}"
    lines, refused = [f"Chosen: {best}. It has {rule}."], refused or {}
    if best in refused:
        lines = [f"No point keeps all limits of the checks. Of all, {best} has {rule}."]
    elif refused:
        lines = [f"Chosen: {best}. Of the points that keep the limits of the checks it has {rule}."]
        lines += _refusals(errors, refused)
    others = [x for x in errors.settings if x != chosen]
    if others:
        lines.append(_next(errors, chosen, others[0], metric))
    lines += _failures(errors.table) + (forgotten or [])
    if best_lora is None:
        return lines
    lora = setting_of(best_lora)
    if lora != chosen:
        lines.append(f"The best LoRA point by the same rule is {best_lora}.")
    for rival in ("foundation", "full", "full_replay", "freeze"):
        if rival in errors.settings:
            lines.append(_against(errors, lora, rival))
    if n == 1:
        lines.append("One seed only: differences of a few percent are within what a seed changes.")
    diverged = errors.table[errors.table["ended_by"] == "diverged"].drop_duplicates("point")
    if len(diverged):
        named = zip(diverged["point"], diverged["reason"], strict=True)
        said = ", ".join(sorted(f"{point} ({why})" for point, why in named))
        lines.append(f"Diverged, best epoch before that shown: {said}.")
    return lines


def _refusals(errors: Errors, refused: dict[str, list[Verdict]]) -> list[str]:
    """The points that were refused, those with the lower errors first, and why."""
    order = {setting: i for i, setting in enumerate(errors.settings)}
    names = sorted(refused, key=lambda point: order[setting_of(point)])
    lines = [
        f"Refused: {point}: {'; '.join(verdict.said() for verdict in refused[point])}."
        for point in names[:SHOWN]
    ]
    more = len(names) - SHOWN
    return lines + ([f"Refused: {more} more, see the table of checks."] if more > 0 else [])


def _failures(table: pd.DataFrame) -> list[str]:
    """The trainings that failed, and why."""
    failed = table[table["ended_by"] == "failed"].drop_duplicates("point")
    lines = [
        f"Failed, and not compared: {point}: {why}."
        for point, why in zip(failed["point"], failed["reason"], strict=True)
    ]
    return lines + (["The next start of snakemake trains it again."] if lines else [])


def _next(errors: Errors, first: str, second: str, metric: str) -> str:
    value = errors.text(second, "valid", metric, 1)
    verdict = errors.versus(first, second, "valid", metric)
    said = {
        "equal": "; the seeds do not tell the two apart",
        "better": "; the seeds tell the two apart",
        "": "; one seed cannot tell so little apart" if _close(errors, first, second) else "",
    }
    return f"Next is {second} with {value}{said.get(verdict, '')}."


def _close(errors: Errors, first: str, second: str) -> bool:
    a, b = (errors.of(x, "valid", errors.metric)[0] for x in (first, second))
    return abs(a - b) < 0.05 * a


def _against(errors: Errors, lora: str, rival: str) -> str:
    """LoRA against a baseline on every test set, and who loses where."""
    parts = []
    for s in errors.tests:
        verdict = errors.versus(lora, rival, s, FORCE)
        pair = " against ".join(errors.text(x, s, FORCE, 1) for x in (lora, rival))
        parts.append(f"{s} {pair}" + (f" ({verdict})" if verdict else ""))
    lost = [
        s
        for s in errors.tests
        if errors.versus(lora, rival, s, FORCE) in ("worse", "")
        and errors.of(lora, s, FORCE)[0] > errors.of(rival, s, FORCE)[0]
    ]
    line = f"Force RMSE (meV/Å) of {lora} against {rival}: {', '.join(parts)}."
    return line + (f" LoRA loses to {rival} on: {', '.join(lost)}." if lost else "")


def forgetting(verdicts: dict[str, dict[str, Verdict]], shown: list[str]) -> list[str]:
    """What some points forgot of the foundation model's own level of theory."""
    parts = [
        f"{point} {one.compared:.1f}"
        for point in dict.fromkeys(shown)
        if (one := verdicts.get(point, {}).get("forgetting")) and one.compared is not None
    ]
    if not parts:
        return []
    said = ", ".join(parts)
    return [
        f"Force error at the foundation's own level of theory, in multiples of its own: {said}."
    ]


def replay_and_lora(
    errors: Errors, verdicts: dict[str, dict[str, Verdict]], best: str | None
) -> list[str]:
    """Whether replay pays for the best LoRA setting, by what it keeps and what it costs.

    MACE's guidance advises against the two together; here the numbers of the sweep speak.
    """
    plain = setting_of(best).replace("_replay", "") if best else ""
    kept = {}
    for setting in errors.settings:
        if setting.replace("_replay", "") == plain:
            points = {p for p in errors.table["point"] if setting_of(p) == setting}
            found = [verdicts.get(p, {}).get("forgetting") for p in points]
            kept["replay" if "_replay" in setting else "naive"] = (
                setting,
                float(np.mean([v.compared for v in found if v and v.compared is not None] or [0])),
            )
    if len(kept) < 2:
        return []
    (without, before), (with_it, after) = kept["naive"], kept["replay"]
    test_set = errors.tests[0]
    cost = " against ".join(errors.text(x, test_set, FORCE, 1) for x in (with_it, without))
    line = f"Replay with LoRA, {with_it} against {without}: {test_set} force RMSE {cost} meV/Å"
    if not before:
        return [f"{line}; what it keeps was not measured (checks.holdout_file)."]
    line += f", forgetting {after:.1f} against {before:.1f} times the foundation's error."
    worse = errors.of(with_it, test_set, FORCE)[0] > errors.of(without, test_set, FORCE)[0]
    if worse and after > before * WORTH:
        line += " It costs accuracy and keeps little: together they make little sense here."
    return [line]
