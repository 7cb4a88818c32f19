"""How a sweep shows in MLflow's UI, and what is written beside its registered model."""

import json
from typing import Any
from urllib.parse import quote

COLUMNS = [
    "params.`method`",
    "params.`lora_rank`",
    "params.`lora_alpha`",
    "params.`seed`",
    "metrics.`test/rmse_e_mev_per_atom`",
    "metrics.`test/rmse_f_mev_per_a`",
    "metrics.`val_final/rmse_e_mev_per_atom`",
    "metrics.`val_final/rmse_f_mev_per_a`",
    "metrics.`trainable_parameters`",
    "metrics.`seconds`",
]
FORCES = "test/rmse_f_mev_per_a"


def view_of(sweep: str, metrics: set[str]) -> dict[str, Any]:
    """Columns, order and charts for the runs of a sweep, as MLflow's UI keeps them itself.

    Args:
        metrics: names of the metrics that the runs have
    """
    shown = [c for c in COLUMNS if not c.startswith("metrics.") or c[9:-1] in metrics]
    forces = FORCES if FORCES in metrics else "val_final/rmse_f_mev_per_a"
    section = {"uuid": "sweep", "name": "Sweep", "display": True, "isReordered": True}
    charts: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": ["lora_rank", "lora_alpha"],
            "selectedMetrics": [forces],
            "showAllRuns": False,
        },
        {"type": "BAR", "metricKey": forces},
        {
            "type": "SCATTER",
            "xaxis": {"key": "trainable_parameters", "type": "METRIC"},
            "yaxis": {"key": forces, "type": "METRIC"},
        },
        {
            "type": "LINE",
            "metricKey": "val/rmse_f_mev_per_a",
            "selectedMetricKeys": ["val/rmse_f_mev_per_a"],
            "scaleType": "log",
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "lineSmoothness": 0,
        },
    ]
    common = {"metricSectionId": "sweep", "deleted": False, "isGenerated": False}
    charts = [
        {"uuid": f"sweep-{i}", "runsCountToCompare": 100, **common, **chart}
        for i, chart in enumerate(charts)
    ]
    return {
        "searchFilter": f"tags.sweep_id = '{sweep}'",
        "orderByKey": f"metrics.`{forces}`",
        "orderByAsc": True,
        "selectedColumns": shown,
        "runsHiddenMode": "SHOWALL",
        "isAccordionReordered": True,  # else sections are sorted by name
        "compareRunCharts": charts,
        "compareRunSections": [section],
    }


def compare_page(experiment_id: str, runs: list[str]) -> str:
    """The page that compares runs, from the server's address on."""
    chosen = quote(json.dumps(runs, separators=(",", ":")))
    experiments = quote(json.dumps([experiment_id]))
    query = f"?runs={chosen}&experiments={experiments}&workflowType=machine_learning"
    return f"/#/compare-runs{query}"


def model_card(name: str, uri: str, point: str, sets: dict[str, dict], merged: dict) -> str:
    """Markdown: what the registered model is, and how to load it."""
    errors = "\n".join(
        f"- {test_set}: {values['rmse_e_mev_per_atom']:.3g} meV/atom, "
        f"{values['rmse_f_mev_per_a']:.3g} meV/Å"
        for test_set, values in sets.items()
    )
    tuned = ", ".join(merged.get("fine_tuned_elements", [])) or "none"
    dtype = merged.get("dtype", "float64")
    return f"""# {point}

The chosen point of its sweep: a standard MACE model ({dtype}; fine-tuned on the elements {tuned}).
RMSE of energies and forces:

{errors}

To use it (a .model file is a pickle: load only what you trust):

```python
import mlflow
from mace.calculators import MACECalculator

mlflow.set_tracking_uri({json.dumps(uri)})
folder = mlflow.artifacts.download_artifacts("models:/{name}@best")
atoms.calc = MACECalculator(f"{{folder}}/{point}.model", default_dtype="{dtype}")
```
"""
