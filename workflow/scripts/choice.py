"""What won and by how much: in words and one table.

Called by the rule `report` with what it names in `snakemake`.  Writes sweep.csv (a row a point
and test set), choice.html (the first page of the report), sweep.html (a row a point), best.json
and summary.txt.
"""

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
from page import page, rows_of
from table import (
    LABELS,
    by_setting,
    choose,
    cut_record,
    make_table,
    read,
    receipts,
    setting_of,
)

ENERGY, FORCE = "rmse_e_mev_per_atom", "rmse_f_mev_per_a"
SURE = 2.0  # standard errors that a difference has to exceed, to be called one


class Errors:
    """Mean and spread over seeds of each setting on each set."""

    def __init__(self, table: pd.DataFrame, metric: str) -> None:
        self.metric, self.table = metric, table
        metrics = list(dict.fromkeys([ENERGY, FORCE, metric]))
        self.found = by_setting(table, metrics)
        self.sets = list(dict.fromkeys(table["test_set"]))
        self.tests = [s for s in self.sets if s != "valid"] or self.sets
        rank = self.found.xs("valid", level="test_set")[(metric, "mean")].sort_values()
        self.settings = list(rank.index)  # best first

    def of(self, setting: str, test_set: str, metric: str) -> tuple[float, float, int]:
        mean, std, n = self.found.loc[(setting, test_set), metric]
        return float(mean), float(std), int(n)

    def text(self, setting: str, test_set: str, metric: str, digits: int) -> str:
        """63.3 ± 1.2, or without a spread where there is one seed."""
        mean, std, n = self.of(setting, test_set, metric)
        return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if n > 1 else "")

    def versus(self, one: str, other: str, test_set: str, metric: str) -> str:
        """better, worse, or equal within what the seeds tell; "" with a single seed."""
        (a, sa, na), (b, sb, nb) = (self.of(x, test_set, metric) for x in (one, other))
        if min(na, nb) < 2:
            return ""
        if abs(a - b) <= SURE * np.sqrt(sa**2 / na + sb**2 / nb):
            return "equal"
        return "better" if a < b else "worse"


def words(errors: Errors, best: str, best_lora: str | None) -> list[str]:
    """What won and by how much, and how LoRA stands against the baselines, said plainly."""
    metric, chosen = errors.metric, setting_of(best)
    n = errors.of(chosen, "valid", metric)[2]
    value = errors.text(chosen, "valid", metric, 1)
    seeds = f", mean of {n} seeds; {best} is the best of them" if n > 1 else ""
    lines = [
        f"Chosen: {best}. It has the lowest {LABELS[metric]} on the validation set, {value}{seeds}."
    ]
    if len(errors.settings) > 1:
        lines.append(_next(errors, errors.settings[0], errors.settings[1], metric))
    if best_lora is None:
        return lines
    lora = setting_of(best_lora)
    if lora != chosen:
        lines.append(f"The best LoRA point by the same rule is {best_lora}.")
    present = {setting_of(p) for p in errors.table["point"]}
    for rival in ("foundation", "naive", "freeze"):
        if rival in present:
            lines.append(_against(errors, lora, rival))
    if n == 1:
        lines.append("One seed only: differences of a few percent are within what a seed changes.")
    diverged = sorted(
        set(errors.table.loc[errors.table["ended_by"] == "diverged", "point"].dropna())
    )
    if diverged:
        lines.append(f"Diverged, best epoch before that shown: {', '.join(diverged)}.")
    return lines


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


def settings_table(errors: Errors) -> pd.DataFrame:
    """A row a setting, best first: RMSE of energy | forces on every set, with spreads."""
    facts = errors.table.assign(setting=errors.table["point"].map(setting_of)).groupby("setting")
    first = facts[["rank", "alpha", "trainable_parameters"]].first()
    first["seeds"] = facts["point"].nunique()
    first["trainable_parameters"] = [f"{x:,}" for x in first["trainable_parameters"]]
    first["alpha"] = [f"{x:g}" if pd.notna(x) else "" for x in first["alpha"]]
    out = first.loc[errors.settings].astype(object)
    for s in errors.sets:
        out[s] = [
            f"{errors.text(x, s, ENERGY, 2)} | {errors.text(x, s, FORCE, 1)}"
            for x in errors.settings
        ]
    out = out.where(out.notna(), "").rename(columns={"trainable_parameters": "trainable"})
    return out.rename_axis(None)


def points_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a point: RMSE of energy | forces on every set, and what its training was."""
    shown = table.assign(
        both=[f"{e:.2f} | {f:.1f}" for e, f in zip(table[ENERGY], table[FORCE], strict=True)]
    )
    sets = list(dict.fromkeys(shown["test_set"]))
    errors = shown.pivot(index="point", columns="test_set", values="both")[sets]
    facts = table.drop_duplicates("point").set_index("point")
    facts = facts[["rank", "alpha", "trainable_parameters", "train_seconds", "best_epoch"]]
    facts = facts.assign(alpha=[f"{x:g}" if pd.notna(x) else "" for x in facts["alpha"]])
    out = facts.join(errors).astype(object)
    out = out.where(out.notna(), "").loc[list(dict.fromkeys(table["point"]))]
    names = {"trainable_parameters": "trainable", "train_seconds": "train s"}
    return out.rename(columns=names).rename_axis(None)


def main(snakemake: object) -> None:
    p, out = snakemake.params, snakemake.output
    records = receipts(snakemake.input.trainings)
    cuts = p.cuts.items()
    records |= {name: cut_record(records[source], rank) for name, (source, rank) in cuts}
    evaluated = receipts(snakemake.input.errors)
    table = make_table([evaluated[point] for point in p.points], records, p.gpus)
    table.to_csv(out.table, index=False, float_format="%.6g")

    metric = p.select["metric"]
    best = choose(table, metric)
    lora = table[table["method"] == "lora"]
    best_lora = None if lora.empty else choose(lora, metric)
    model = Path(p.results) / "merge" / best / f"{best}.model"
    found = {"point": best, "lora": best_lora, "metric": metric, "model": str(model)}
    Path(out.best).write_text(json.dumps(found, indent=2) + "\n")

    errors = Errors(table, metric)
    said = words(errors, best, best_lora)
    for path in snakemake.input.committee:
        said += read(path)["said"]
    people = settings_table(errors)
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in said)
    note = "<p class=note>RMSE of energy (meV/atom) | forces (meV/Å), a column each set; best first"
    note += ", by the validation set.</p>"
    body = paragraphs + note + rows_of(people, chosen=setting_of(best))
    Path(out.choice).write_text(page("What won", body))
    points = rows_of(points_table(table), chosen=best)
    Path(out.html).write_text(page("Every point", note + points))
    Path(out.summary).write_text(summary(people, said, model, p.results, out.table))


def summary(people: pd.DataFrame, said: list[str], model: Path, results: str, table: str) -> str:
    """What is printed at the end of a sweep."""
    lines = [
        "",
        "RMSE of energy (meV/atom) | forces (meV/Å), a column each set, best first:",
        people.to_string(),
        "",
        *said,
        "",
        f"model     {model}  (each point's is {results}/merge/POINT/POINT.model)",
        f"table     {table}",
        "report    snakemake --report report.html",
        f"compare   mace-lora ui {results}",
        "          (or MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui -w 1 "
        f"--backend-store-uri 'sqlite:///{Path(results).resolve()}/track/mlflow.db')",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  # snakemake puts it there
