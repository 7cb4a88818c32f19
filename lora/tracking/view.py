"""Describe how a sweep shows in MLflow's UI."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from lora.catalogue.colours import METHODS, OTHER
from lora.catalogue.columns import BY_KEY, EPOCH_METRICS, FORCE, ROWS, VALID
from lora.plan.points import FOUNDATION, Point
from lora.tracking.run import FAILED

TEST = "test"  # the set whose errors the table and the charts show, beside the validation set
CHOOSES = f"{VALID}/{FORCE}"  # test sets only report
EPOCHS = EPOCH_METRICS[f"valid_{FORCE}"]
CHECKS = ("check/forgetting", FAILED)
NAME = "attributes.`Run Name`"
NAME_WIDTH, HEAD, LETTER = 300, -10, 6  # pixels; a column's id is longer than its heading
COMPARED = 50  # runs that MLflow's page for comparing them shows within seconds; of 1,000 nothing
COLOUR = "mlflow.runColor"  # tag of the colour that a person gives to a run in MLflow's UI


def colour_of(method: str) -> str:
    """Return the colour of the runs of a method."""
    return METHODS.get(method, OTHER)


def _columns() -> list[str]:
    """Return the columns of the table of runs: what decides, then the rest."""
    viewed = [row for row in ROWS if row.viewed]
    errors = sorted((x.metric for x in viewed if x.error), key=lambda x: x != BY_KEY[FORCE].metric)
    params = [f"params.`{row.param}`" for row in viewed if row.param]
    valid, test = ([f"metrics.`{folder}/{x}`" for x in errors] for folder in (VALID, TEST))
    checks = [f"metrics.`{x}`" for x in CHECKS]
    counts = [f"metrics.`{row.metric}`" for row in viewed if row.metric and not row.error]
    return ["tags.`chosen`", *valid, *checks, *params, *test, *counts]


COLUMNS = _columns()


def varied(points: Iterable[Point]) -> list[str]:
    """Return the params of the axes of the grid, beside rank and alpha, that vary between points.

    Args:
        points: The points of a sweep.
    """
    settings = [x.settings for x in points if x.settings and x.is_lora]
    axes = [(row.param, row.source.removeprefix("settings.")) for row in ROWS if row.varied]
    return [param for param, name in axes if len({getattr(x, name) for x in settings}) > 1]


def view_of(
    sweep: str, metrics: set[str], axes: Sequence[str] = (), charts: bool = False
) -> dict[str, Any]:
    """Return columns, order and charts for the runs of a sweep, as MLflow's UI keeps them itself.

    Args:
        sweep: The id of the sweep.
        metrics: The names of the metrics that the runs have.
        axes: The params that `varied` gives.
        charts: Whether it is the view with the charts.  MLflow's views cannot hide a run, so this
            one does not ask for the foundation model, whose errors would set every scale.
    """
    shown = [c for c in COLUMNS if not c.startswith("metrics.") or c[9:-1] in metrics]
    ranks = [BY_KEY["rank"].param, BY_KEY["alpha"].param]
    place = shown.index(f"params.`{ranks[-1]}`") + 1
    own = [f"params.`{x}`" for x in axes]
    shown[place:place] = [x for x in own if x not in shown]
    section = {"uuid": "sweep", "name": "Sweep", "display": True, "isReordered": True}
    cards: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": [*ranks, *axes],
            "selectedMetrics": [CHOOSES],
            "showAllRuns": False,
        },
        {"type": "BAR", "metricKey": CHOOSES},
        {
            "type": "SCATTER",
            "xaxis": {"key": BY_KEY["trainable_parameters"].metric, "type": "METRIC"},
            "yaxis": {"key": CHOOSES, "type": "METRIC"},
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
    cards = [
        {"uuid": f"sweep-{i}", "runsCountToCompare": 100, **common, **card}
        for i, card in enumerate(cards)
    ]
    trained = f" and params.method != '{FOUNDATION.kind}'" if charts else ""
    return {
        "searchFilter": f"tags.sweep_id = '{sweep}'{trained}",
        "orderByKey": f"metrics.`{CHOOSES}`",
        "orderByAsc": True,
        "selectedColumns": shown,
        "columnOrder": [NAME, *shown],
        "columnWidths": {NAME: NAME_WIDTH} | {x: HEAD + LETTER * len(x) for x in shown},
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # else sections are sorted by name
        "compareRunCharts": cards,
        "compareRunSections": [section],
    }


def compare_page(experiment_id: str, runs: Mapping[str, float]) -> str:
    """Return the page that compares runs, from the server's address on.

    Args:
        experiment_id: MLflow's id of their experiment.
        runs: {run id: what chooses, lower is better}; of more than `COMPARED` the best are shown.
    """
    best = sorted(runs, key=lambda run: runs[run])[:COMPARED]
    chosen = quote(json.dumps([run for run in runs if run in best], separators=(",", ":")))
    experiments = quote(json.dumps([experiment_id]))
    query = f"?runs={chosen}&experiments={experiments}&workflowType=machine_learning"
    return f"/#/compare-runs{query}"
