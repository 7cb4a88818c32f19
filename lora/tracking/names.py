"""Name settings and epochs as MLflow shows them."""

import json
from typing import Any

from lora.catalogue.columns import EPOCH_METRICS, ROWS
from lora.catalogue.methods import ADAPTERS

Metric = tuple[str, float, int, int]  # name, value, milliseconds, epoch
PLAIN = ("lr", "seed", "targets")  # settings that are shown by their own names


def epoch_metrics(line: dict[str, Any]) -> list[Metric]:
    """Return the metrics of an epoch.

    Args:
        line: Its line in metrics.jsonl.
    """
    stamp = int(1000 * line["timestamp"])
    return [
        (name, line[key], stamp, line["epoch"])
        for key, name in EPOCH_METRICS.items()
        if line[key] is not None
    ]


def params_of(settings: dict[str, Any]) -> dict[str, str]:
    """Return the params of a run.

    MLflow's contour plot takes the first two: rank and alpha.

    Args:
        settings: The settings of a training; of the foundation model its method alone.
    """
    left = json.loads(json.dumps(settings))  # as they stand in train.json
    method = left.pop("method")
    first = {}
    for column in ROWS:
        if column.adapter:
            value = left.pop(column.key, None)
            if method in ADAPTERS:
                first[column.param] = value
    plain = {name: left.pop(name) for name in PLAIN if name in left}
    params = first | {"method": method} | plain | {f"train/{k}": v for k, v in left.items()}
    return {name: _text(value) for name, value in params.items()}


def _text(value: Any) -> str:
    """Return a value as text, with whole numbers in one form: 8.0 as 8."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
