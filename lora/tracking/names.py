"""Name runs, models, settings and epochs as MLflow shows them."""

import json
import math
import re
from pathlib import Path
from typing import Any

from lora.catalogue.columns import EPOCH_METRICS, ROWS, SYSTEM
from lora.catalogue.methods import ADAPTERS
from lora.plan.config import Config
from lora.plan.earlier import called
from lora.plan.targets import Targets

Metric = tuple[str, float, int, int]  # name, value, milliseconds, epoch
PLAIN = ("lr", "seed", "targets")  # settings that are shown by their own names
DIGITS, WHOLE = 4, 1e4  # significant digits of a metric, and from where on it is a whole number


def title_of(config: Config) -> str:
    """Return what all runs of a sweep share: base and data, for example "base on water".

    Args:
        config: The config of the sweep.
    """
    base = called(config.foundation.model)
    return f"{plain_name(str(base))} on {plain_name(config.data.file)}"


def plain_name(path: str) -> str:
    """Return the name of a file or of a foundation model in letters that MLflow takes in names."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).stem).strip("-") or "unnamed"


def model_name(config: Config, sweep: str = "") -> str:
    """Return the name of the registered model.

    Args:
        config: The config of the sweep.
        sweep: The id of the sweep, for a server where others may have the same base and data.
    """
    return "-".join([title_of(config).replace(" ", "-"), *([sweep] if sweep else [])])


def run_name(point: str, title: str) -> str:
    """Return the name of a run: its point, of which base and on which data."""
    return f"{point}: {title}"


def short(value: float) -> float:
    """Return a number as MLflow shall show it: four digits, and all of a whole number."""
    if not math.isfinite(value) or float(value).is_integer():
        return float(value)
    return float(round(value)) if abs(value) >= WHOLE else float(f"{value:.{DIGITS}g}")


def epoch_metrics(line: dict[str, Any]) -> list[Metric]:
    """Return the metrics of an epoch.

    Args:
        line: Its line in metrics.jsonl.
    """
    stamp = int(1000 * line["timestamp"])
    values = {name: line[key] for key, name in EPOCH_METRICS.items()}
    values |= {f"{SYSTEM}/{key}": value for key, value in line.get(SYSTEM, {}).items()}
    return [
        (name, short(value), stamp, line["epoch"])
        for name, value in values.items()
        if value is not None
    ]


def params_of(settings: dict[str, Any]) -> dict[str, str]:
    """Return the params of a run.

    MLflow's contour plot takes the first two: rank and alpha.

    Args:
        settings: The settings of a training; of the foundation model its method alone.
    """
    left = json.loads(json.dumps(settings))  # as they stand in train.json
    method = left.pop("method")
    if method in ADAPTERS:
        left["placement"] = Targets.from_dict(left.get("targets", {})).placement
    first = {}
    for column in ROWS:
        if column.adapter and column.param and column.key in left:
            value = left.pop(column.key)
            if method in ADAPTERS:
                first[column.param] = value
    plain = {name: left.pop(name) for name in PLAIN if name in left}
    params = first | {"method": method} | plain | {f"settings/{k}": v for k, v in left.items()}
    return {name: _text(value) for name, value in params.items()}


def _text(value: Any) -> str:
    """Return a value as text, with whole numbers in one form: 8.0 as 8."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
