"""What settings and epochs are called in MLflow."""

import json
from typing import Any

EPOCH_METRICS = {
    "train_loss": "train/loss",
    "valid_loss": "val/loss",
    "valid_rmse_e_mev_per_atom": "val/rmse_e_mev_per_atom",
    "valid_rmse_f_mev_per_a": "val/rmse_f_mev_per_a",
    "lr": "train/lr",
}


def epoch_metrics(line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """The metrics of an epoch, from its line in metrics.jsonl."""
    stamp = int(1000 * line["timestamp"])
    return [
        (name, line[key], stamp, line["epoch"])
        for key, name in EPOCH_METRICS.items()
        if line[key] is not None
    ]


def params_of(settings: dict[str, Any]) -> dict[str, str]:
    """Params of a run.  MLflow's contour plot takes the first two: rank and alpha."""
    left = json.loads(json.dumps(settings))  # as they stand in train.json
    method, first = left.pop("method"), {}
    for name in ("rank", "alpha", "scaling"):
        value = left.pop(name, None)
        if method == "lora":
            first[f"lora_{name}"] = value
    own = {name: left.pop(name) for name in ("lr", "seed", "targets") if name in left}
    params = first | {"method": method} | own | {f"train/{k}": v for k, v in left.items()}
    return {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in params.items()}
