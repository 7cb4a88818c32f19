"""The table of points, the chosen one, and a summary in words.

Called by the rule `report` with what it names in `snakemake`.  Writes sweep.csv (a row a point
and test set), sweep.html (the same, readable), best.json and summary.txt.
"""

import json
from pathlib import Path

import pandas as pd

COLUMNS = ["point", "method", "rank", "alpha", "scaling", "seed"]
COUNTS = ["trainable_parameters", "total_parameters"]
TIMES = ["train_seconds", "epochs", "best_epoch", "ended_by", "peak_memory_mb"]


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def receipts(paths: list[str]) -> dict[str, dict]:
    """What a step found of each point, from the receipts of all packs."""
    return {point: found for path in paths for point, found in read(path).items()}


def row_of(point: str, record: dict | None) -> dict:
    """What the columns say of a point, apart from its errors; `foundation` was not trained."""
    if record is None:
        return {"point": point, "method": "foundation", "trainable_parameters": 0}
    settings = record["settings"]
    row = {"point": point, "method": settings["method"], "seed": settings["seed"]}
    if settings["method"] in ("lora", "cut"):
        row |= {k: settings[k] for k in ("rank", "alpha", "scaling")}
    row |= {k: record[k] for k in [*COUNTS, "epochs", "best_epoch", "ended_by", "peak_memory_mb"]}
    return row | {"train_seconds": record["seconds"]}


def cut_record(record: dict, rank: int) -> dict:
    """The record of a training whose adapter was cut: fewer numbers, no training of its own."""
    settings = record["settings"] | {"method": "cut", "rank": rank}
    share = rank / record["settings"]["rank"]
    kept = {"trainable_parameters": round(share * record["trainable_parameters"])}
    return record | {"settings": settings} | kept


def make_table(evaluated: list[dict], records: dict[str, dict]) -> pd.DataFrame:
    """One row a point and test set, the validation set among them as `valid`."""
    rows = []
    for result in evaluated:
        row = row_of(result["point"], records.get(result["point"]))
        for test_set, errors in result["sets"].items():
            numbers = {k: v for k, v in errors.items() if isinstance(v, float)}
            rows.append(row | {"test_set": test_set} | numbers)
    table = pd.DataFrame(rows).reindex(
        columns=[*COLUMNS, *COUNTS, "test_set", *_errors(rows), *TIMES]
    )
    order = table["method"].map({"lora": 0, "cut": 1, "naive": 2, "freeze": 3, "foundation": 4})
    table = table.assign(_order=order).sort_values(
        ["_order", "rank", "alpha", "point"], kind="stable"
    )
    return table.drop(columns="_order").astype(
        dict.fromkeys(("rank", "seed", "epochs", "best_epoch", "peak_memory_mb", *COUNTS), "Int64")
    )


def _errors(rows: list[dict]) -> list[str]:
    names = dict.fromkeys(k for row in rows for k in row if k.startswith(("rmse_", "mae_")))
    return sorted(names, key=lambda k: (k.startswith("mae_"), k))


def choose(table: pd.DataFrame, metric: str) -> str:
    """The point with the lowest `metric` on the validation set; test sets have no say."""
    valid = table[table["test_set"] == "valid"]
    return str(valid.loc[valid[metric].idxmin(), "point"])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A row a point: RMSE of energy and forces on every set, for people."""
    shown = table.copy()
    shown["E | F"] = [
        f"{e:.2f} | {f:.1f}"
        for e, f in zip(shown["rmse_e_mev_per_atom"], shown["rmse_f_mev_per_a"], strict=True)
    ]
    sets = list(dict.fromkeys(shown["test_set"]))
    points = shown.pivot(index="point", columns="test_set", values="E | F")[sets]
    facts = table.drop_duplicates("point").set_index("point")
    facts = facts[["rank", "alpha", "trainable_parameters", "train_seconds", "best_epoch"]]
    out = facts.join(points).astype(object)
    out = out.where(out.notna(), "")
    return out.loc[list(dict.fromkeys(table["point"]))].rename(
        columns={"trainable_parameters": "trainable", "train_seconds": "train s"}
    )


def words(table: pd.DataFrame, best: str, best_lora: str | None, metric: str) -> list[str]:
    """What won and by how much, and how LoRA stands against the baselines, said plainly."""

    def error(point: str, test_set: str) -> float:
        row = table[(table["point"] == point) & (table["test_set"] == test_set)]
        return float(row["rmse_f_mev_per_a"].iloc[0])

    others = [s for s in dict.fromkeys(table["test_set"]) if s != "valid"]
    lines = [f"Best by {metric} on the validation set: {best}"]
    rivals = [
        "foundation",
        *dict.fromkeys(table[table["method"].isin(["naive", "freeze"])]["point"]),
    ]
    if best_lora is None:
        return lines
    if best_lora != best:
        lines.append(f"Best LoRA point by the same rule: {best_lora}")
    for rival in rivals:
        if rival not in set(table["point"]):
            continue
        parts = [f"{s} {error(best_lora, s):.1f} against {error(rival, s):.1f}" for s in others]
        lines.append(f"Force RMSE of {best_lora} against {rival} (meV/Å): {', '.join(parts)}")
    naive = [p for p in rivals if p.startswith("naive")]
    for point in naive:
        lost = [s for s in others if error(point, s) < error(best_lora, s)]
        if lost:
            lines.append(f"LoRA loses to {point} on: {', '.join(lost)}")
    diverged = sorted(set(table.loc[table["ended_by"] == "diverged", "point"]))
    if diverged:
        lines.append(f"Diverged, best epoch before that shown: {', '.join(diverged)}")
    if table["seed"].nunique() == 1:
        lines.append("One seed only: differences of a few percent are within what a seed changes.")
    return lines


def main(snakemake: object) -> None:
    points = snakemake.params.points
    records = receipts(snakemake.input.trainings)
    cuts = snakemake.params.cuts.items()
    records |= {name: cut_record(records[source], rank) for name, (source, rank) in cuts}
    evaluated = receipts(snakemake.input.errors)
    table = make_table([evaluated[point] for point in points], records)
    metric = snakemake.params.select["metric"]
    best = choose(table, metric)
    lora = table[table["method"] == "lora"]
    best_lora = None if lora.empty else choose(lora, metric)
    results = Path(snakemake.params.results)
    model = results / "merge" / best / f"{best}.model"
    track = results.resolve() / "track" / "mlflow.db"

    table.to_csv(snakemake.output.table, index=False, float_format="%.6g")
    people, said = wide(table), words(table, best, best_lora, metric)
    for path in snakemake.input.committee:
        said += read(path)["said"]
    Path(snakemake.output.best).write_text(
        json.dumps(
            {"point": best, "lora": best_lora, "metric": metric, "model": str(model)}, indent=2
        )
        + "\n"
    )
    summary = [
        "",
        "RMSE of energy (meV/atom) | forces (meV/Å), a column each set:",
        people.to_string(),
        "",
        *said,
        "",
        f"model     {model}  (each point's is {results}/merge/POINT/POINT.model)",
        f"table     {snakemake.output.table}",
        "report    snakemake --report report.html",
        "compare   MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui -w 1 "
        f"--backend-store-uri 'sqlite:///{track}'",
        "          then open http://127.0.0.1:5000/#/experiments?workflowType=machine_learning",
        "",
    ]
    Path(snakemake.output.summary).write_text("\n".join(summary))
    style = "<style>body{font:14px sans-serif}td,th{padding:3px 9px;text-align:right}</style>"
    paragraphs = "".join(f"<p>{line}</p>" for line in said)
    note = "<p>RMSE: energy (meV/atom) | forces (meV/Å)</p>"
    body = people.to_html(border=0)
    Path(snakemake.output.html).write_text(f"<meta charset=utf-8>{style}{paragraphs}{note}{body}\n")


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  # snakemake puts it there
