"""The table of points, and which of them is chosen.  Used by the scripts of the report."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lora.errors import UserError
from lora.files.sealed import check_file, read_json

COLUMNS = ["point", "method", "rank", "alpha", "scaling", "seed", "train_fraction"]
COUNTS = ["n_train", "trainable_parameters", "total_parameters"]
ENDS = ["epochs", "best_epoch", "ended_by", "peak_memory_mb"]
TIMES = ["train_seconds", "gpu_hours", *ENDS, "reason"]
ORDER = {
    "lora": 0,
    "lora_replay": 1,
    "cut": 2,
    "full": 3,
    "full_replay": 4,
    "freeze": 5,
    "foundation": 6,
}
LORA = ("lora", "lora_replay")
LABELS = {
    "rmse_e_mev_per_atom": "energy RMSE (meV/atom)",
    "rmse_f_mev_per_a": "force RMSE (meV/Å)",
    "mae_e_mev_per_atom": "energy MAE (meV/atom)",
    "mae_f_mev_per_a": "force MAE (meV/Å)",
}
QUANTITIES = {name: LABELS[name] for name in ("rmse_e_mev_per_atom", "rmse_f_mev_per_a")}


def read(path: str | Path) -> dict:
    """A JSON file of the sweep; one that is damaged ends the script, in one line."""
    return _or_end(read_json, path)


def read_beside(path: str | Path) -> Path:
    """A file that the JSON beside it keeps the digest of, if it is the same still."""
    _or_end(check_file, path)
    return Path(path)


def _or_end(reader: Callable, path: str | Path) -> Any:
    try:
        return reader(path)
    except UserError as error:
        raise SystemExit(f"report: {error}") from None


def receipts(paths: list[str]) -> dict[str, dict]:
    """What a step found of each point, from the receipts of all packs."""
    return {point: found for path in paths for point, found in read(path).items()}


def row_of(point: str, record: dict | None, gpus: int) -> dict:
    """What the columns say of a point, apart from its errors; `foundation` was not trained."""
    if record is None:
        return {"point": point, "method": "foundation", "trainable_parameters": 0}
    settings = record["settings"]
    row = {"point": point, "method": method_of(settings), "seed": settings["seed"]}
    if settings["method"] in ("lora", "cut"):
        row |= {k: settings[k] for k in ("rank", "alpha", "scaling")}
    row["train_fraction"] = settings.get("train_fraction", 1.0)
    row |= {k: record[k] for k in [*COUNTS, *ENDS]} | {"reason": record.get("reason")}
    used = gpus if settings["device"].startswith("cuda") else 0
    hours = record["seconds"] * used / 3600
    return row | {"train_seconds": record["seconds"], "gpu_hours": hours}


def method_of(settings: dict) -> str:
    """What was done, in one word: of the method and the protocol."""
    replays = settings["replay"] and settings["method"] in ("lora", "full")
    return f"{settings['method']}_replay" if replays else str(settings["method"])


def cut_record(record: dict, rank: int) -> dict:
    """The record of a training whose adapter was cut: fewer numbers, no training of its own."""
    settings = record["settings"] | {"method": "cut", "rank": rank}
    share = rank / record["settings"]["rank"]
    kept = {"trainable_parameters": round(share * record["trainable_parameters"])}
    return record | {"settings": settings} | kept


def records_of(trainings: list[str], cuts: dict[str, tuple[str, int]]) -> dict[str, dict]:
    """The record of every training, and of what was cut from one: {cut: (training, rank)}."""
    records = receipts(trainings)
    return records | {name: cut_record(records[x], rank) for name, (x, rank) in cuts.items()}


def make_table(evaluated: list[dict], records: dict[str, dict], gpus: int = 1) -> pd.DataFrame:
    """One row a point and test set, the validation set among them as `valid`.

    A training that failed has no errors: it is not to be compared.
    """
    rows = []
    for result in evaluated:
        row = row_of(result["point"], records.get(result["point"]), gpus)
        for test_set, errors in result["sets"].items():
            numbers = {k: v for k, v in errors.items() if isinstance(v, float)}
            if row.get("ended_by") == "failed":
                numbers = dict.fromkeys(numbers, float("nan"))
            rows.append(row | {"test_set": test_set} | numbers)
    table = pd.DataFrame(rows).reindex(
        columns=[*COLUMNS, *COUNTS, "test_set", *_errors(rows), *TIMES]
    )
    table = table.assign(_order=table["method"].map(ORDER)).sort_values(
        ["_order", "rank", "alpha", "point"], kind="stable"
    )
    return table.drop(columns="_order").astype(
        dict.fromkeys(("rank", "seed", "epochs", "best_epoch", "peak_memory_mb", *COUNTS), "Int64")
    )


def _errors(rows: list[dict]) -> list[str]:
    names = dict.fromkeys(k for row in rows for k in row if k.startswith(("rmse_", "mae_")))
    return sorted(names, key=lambda k: (k.startswith("mae_"), k))


def of_all_data(table: pd.DataFrame) -> pd.DataFrame:
    """The points that trained on the largest share of the data, and those that did not train."""
    share = table["train_fraction"]
    return table[share.isna() | (share == share.max())]


def setting_of(point: str) -> str:
    """What a point has in common with those of other seeds: its name without the seed."""
    return re.sub(r"_s\d+(?=_cut|$)", "", point)


def by_setting(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds: a row a setting and set, columns (metric, stat)."""
    named = table.assign(setting=table["point"].map(setting_of))
    return named.groupby(["setting", "test_set"], sort=False)[metrics].agg(["mean", "std", "count"])
