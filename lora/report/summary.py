"""What won and by how much: in words and one table.

Called by the rule `report` with what it names in `snakemake`.  Writes sweep.csv (a row a point
and test set), choice.html (the first page of the report), sweep.html (a row a point), checks.html,
best.json and summary.txt.
"""

import html
from pathlib import Path

import pandas as pd

from lora.files.sealed import write_sealed
from lora.report.checks_page import write_checks
from lora.report.page import page, rows_of
from lora.report.words import ENERGY, FORCE, Errors, forgetting, replay_and_lora, words
from lora.selection.choose import choose
from lora.selection.table import make_table, of_all_data, read, receipts, records_of, setting_of
from lora.selection.verdict import Verdict, best_of_each, gather, judge


def settings_table(errors: Errors, failed: dict[str, list[Verdict]]) -> pd.DataFrame:
    """A row a setting, best first: RMSE of energy | forces on every set, with spreads.

    The last column names the checks that one of its seeds failed.
    """
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
    refusals = {
        x: {v.check for p, f in failed.items() if setting_of(p) == x for v in f} for x in out.index
    }
    if any(refusals.values()):
        out["refused for"] = [", ".join(sorted(refusals[x])) for x in out.index]
    out = out.where(out.notna(), "").rename(columns={"trainable_parameters": "trainable"})
    return out.rename_axis(None)


def points_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a point: RMSE of energy | forces on every set, and what its training was."""
    shown = table.assign(
        both=[
            f"{e:.2f} | {f:.1f}" if pd.notna(f) else ""
            for e, f in zip(table[ENERGY], table[FORCE], strict=True)
        ]
    )
    sets = list(dict.fromkeys(shown["test_set"]))
    errors = shown.pivot(index="point", columns="test_set", values="both")[sets]
    facts = table.drop_duplicates("point").set_index("point")
    facts = facts[["rank", "alpha", "trainable_parameters", "train_seconds", "best_epoch"]]
    facts = facts.assign(alpha=[f"{x:g}" if pd.notna(x) else "" for x in facts["alpha"]])
    out = facts.join(errors).astype(object)
    if len(told := notes(table)):
        out["note"] = pd.Series(told)
    out = out.where(out.notna(), "").loc[list(dict.fromkeys(table["point"]))]
    names = {"trainable_parameters": "trainable", "train_seconds": "train s"}
    return out.rename(columns=names).rename_axis(None)


def notes(table: pd.DataFrame) -> dict[str, str]:
    """What there is to say of single trainings: that they failed, and why, or diverged."""
    points = table.drop_duplicates("point").set_index("point")
    points = points.dropna(subset="reason")
    return {x: f"{row['ended_by']}: {row['reason']}" for x, row in points.iterrows()}


def main(snakemake: object) -> None:
    p, out = snakemake.params, snakemake.output
    records = records_of(snakemake.input.trainings, p.cuts)
    evaluated = receipts(snakemake.input.errors)
    table = make_table([evaluated[point] for point in p.points], records, p.gpus)
    table.to_csv(out.table, index=False, float_format="%.6g")

    metric, thorough = p.select["metric"], receipts(snakemake.input.thorough)
    checks = gather([receipts(snakemake.input.checks), thorough], p.points)
    if table.loc[table["test_set"] == "valid", metric].isna().all():
        raise SystemExit(f"report: every training failed: {table['reason'].iloc[0]}")
    verdicts = judge(checks, p.select["limits"])
    best, best_lora, failed = choose(table, metric, verdicts, thorough)
    model = Path(p.results) / "merge" / best / f"{best}.model"
    found = {"point": best, "lora": best_lora, "metric": metric, "model": str(model)}
    write_sealed(out.best, found)

    errors = Errors(table, metric)
    whole = of_all_data(table)
    baselines = best_of_each(
        whole.loc[whole["method"].isin(["full", "full_replay", "freeze"]), "point"]
    )
    forgotten = forgetting(verdicts, [best, *([best_lora] if best_lora else []), *baselines])
    forgotten += replay_and_lora(errors, verdicts, best_lora)
    said = words(errors, best, best_lora, failed, forgotten)
    for path in snakemake.input.committee:
        said += read(path)["said"]
    people = settings_table(errors, failed)
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in said)
    note = "<p class=note>RMSE of energy (meV/atom) | forces (meV/Å), a column each set; best first"
    note += ", by the validation set.</p>"
    body = paragraphs + note + rows_of(people, chosen=setting_of(best))
    Path(out.choice).write_text(page("What won", body))
    points = rows_of(points_table(table), chosen=best)
    Path(out.html).write_text(page("Every point", note + points))
    write_checks(checks, verdicts, out.checks)
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
