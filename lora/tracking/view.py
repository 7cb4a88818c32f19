"""Describe how a sweep shows in MLflow's UI, and write what stands beside its registered model."""

import json
from typing import Any
from urllib.parse import quote

from lora.catalogue.columns import BY_KEY, ENERGY, EPOCH_METRICS, FINAL, FORCE, ROWS, VALID

TEST = "test"  # the set whose errors the table and the charts show, beside the validation set
EPOCHS = EPOCH_METRICS[f"valid_{FORCE}"]


def _columns() -> list[str]:
    """Return the columns of the table of runs: params, errors on two sets, counts."""
    viewed = [row for row in ROWS if row.viewed]
    errors = [row.metric for row in viewed if row.error]
    params = [f"params.`{row.param}`" for row in viewed if row.param]
    sets = [f"metrics.`{folder}/{name}`" for folder in (FINAL[VALID], TEST) for name in errors]
    counts = [f"metrics.`{row.metric}`" for row in viewed if row.metric and not row.error]
    return params + sets + counts


COLUMNS = _columns()


def view_of(sweep: str, metrics: set[str]) -> dict[str, Any]:
    """Return columns, order and charts for the runs of a sweep, as MLflow's UI keeps them itself.

    Args:
        sweep: The id of the sweep.
        metrics: The names of the metrics that the runs have.
    """
    shown = [c for c in COLUMNS if not c.startswith("metrics.") or c[9:-1] in metrics]
    forces = f"{FINAL[VALID]}/{FORCE}"  # what chooses; test sets only report
    section = {"uuid": "sweep", "name": "Sweep", "display": True, "isReordered": True}
    charts: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": [BY_KEY["rank"].param, BY_KEY["alpha"].param],
            "selectedMetrics": [forces],
            "showAllRuns": False,
        },
        {"type": "BAR", "metricKey": forces},
        {
            "type": "SCATTER",
            "xaxis": {"key": BY_KEY["trainable_parameters"].metric, "type": "METRIC"},
            "yaxis": {"key": forces, "type": "METRIC"},
        },
        {
            "type": "LINE",
            "metricKey": EPOCHS,
            "selectedMetricKeys": [EPOCHS],
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
    """Return the page that compares runs, from the server's address on."""
    chosen = quote(json.dumps(runs, separators=(",", ":")))
    experiments = quote(json.dumps([experiment_id]))
    query = f"?runs={chosen}&experiments={experiments}&workflowType=machine_learning"
    return f"/#/compare-runs{query}"


def model_card(
    name: str, uri: str, point: str, sets: dict[str, dict[str, Any]], merged: dict[str, Any]
) -> str:
    """Return in markdown what the registered model is, and how to load it.

    Args:
        name: The name of the registered model.
        uri: The store.
        point: The chosen point.
        sets: {set: {error: value}}.
        merged: The contents of merge.json.
    """
    errors = "\n".join(
        f"- {test_set}: "
        + ", ".join(f"{values[x]:.3g} {BY_KEY[x].unit}" for x in (ENERGY, FORCE) if x in values)
        for test_set, values in sets.items()
    )
    tuned = ", ".join(merged.get("fine_tuned_elements", [])) or "none"
    dtype = merged.get("dtype", "float64")
    return f"""# {point}

The chosen point of its sweep: a standard MACE model ({dtype}; fine-tuned on the elements {tuned}).
RMSE of energies and forces:

{errors}

To use it, in the folder that holds the results where the store is theirs (a .model file is a
pickle: load only what you trust):

```python
import mlflow
from mace.calculators import MACECalculator

mlflow.set_tracking_uri({json.dumps(uri)})
folder = mlflow.artifacts.download_artifacts("models:/{name}@best")
atoms.calc = MACECalculator(f"{{folder}}/{point}.model", default_dtype="{dtype}")
```
"""
