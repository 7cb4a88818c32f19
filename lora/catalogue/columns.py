"""The columns of sweep.csv in their order: where each comes from, and where else it is shown.

A number of train.json becomes a column of the table, of the pages and of MLflow by one row here.
"""

from dataclasses import dataclass
from typing import Any

VALID = "valid"  # the name of the validation set among the sets


@dataclass(frozen=True)
class Column:
    """One column of sweep.csv.

    Attributes:
        key: The name in sweep.csv.
        label: The heading in tables and on axes, without the unit.
        unit: The unit, "" where there is none.
        source: The key in train.json, or `settings.` and the name of a setting; "" where the table
            makes the value itself.
        integer: Whether the values are whole numbers, of which some may be missing.
        adapter: Whether only points with an adapter have it.
        error: Whether it is an error on a set, which evaluation found.
        shown: The pages with it: groups (a row a group), points (a row a point), cost.
        param: The name of the param in MLflow, "" where there is none.
        metric: The name of the metric in MLflow, "" where there is none; of an error, what follows
            the set's name and a slash.
        viewed: Whether MLflow's table of runs shows it when it is opened.
        varied: Whether the table has it only where its values differ.
    """

    key: str
    label: str = ""
    unit: str = ""
    source: str = ""
    integer: bool = False
    adapter: bool = False
    error: bool = False
    shown: tuple[str, ...] = ()
    param: str = ""
    metric: str = ""
    viewed: bool = False
    varied: bool = False

    @property
    def heading(self) -> str:
        """Return the label with its unit, for example "memory (MB)"."""
        return f"{self.label or self.key}{f' ({self.unit})' if self.unit else ''}"


def _error(key: str, label: str, unit: str, viewed: bool = False) -> Column:
    return Column(key, label, unit, error=True, metric=key, viewed=viewed)


def _axis(key: str, source: str, param: str = "") -> Column:
    more: dict[str, Any] = {"adapter": True, "varied": True, "shown": TABLES, "param": param}
    return Column(key, key, source=source, **more)


TABLES = ("groups", "points")
ROWS = (
    Column("point"),
    Column("method", param="method", viewed=True),
    Column(
        *("rank", "rank", "", "settings.rank"),
        integer=True,
        adapter=True,
        shown=TABLES,
        param="lora_rank",
        viewed=True,
    ),
    Column(
        *("alpha", "alpha", "", "settings.alpha"),
        adapter=True,
        shown=TABLES,
        param="lora_alpha",
        viewed=True,
    ),
    _axis("adapter", "settings.method", "method"),
    _axis("start", "settings.start", "start"),
    _axis("placement", "settings.placement", "placement"),
    Column("scaling", source="settings.scaling", adapter=True),
    Column("seed", source="settings.seed", integer=True, param="seed", viewed=True),
    Column("train_fraction", source="settings.train_fraction"),
    Column("n_train", source="n_train", integer=True),
    Column(
        *("trainable_parameters", "trainable", "", "trainable_parameters"),
        integer=True,
        shown=("groups", "points", "cost"),
        metric="trainable_parameters",
        viewed=True,
    ),
    Column(
        *("total_parameters", "parameters", "", "total_parameters"),
        integer=True,
        shown=("cost",),
        metric="total_parameters",
    ),
    Column("test_set"),
    _error("rmse_e_mev_per_atom", "energy RMSE", "meV/atom", viewed=True),
    _error("rmse_f_mev_per_a", "force RMSE", "meV/Å", viewed=True),
    _error("rmse_stress_mev_per_a3", "stress RMSE", "meV/Å³"),
    _error("mae_e_mev_per_atom", "energy MAE", "meV/atom"),
    _error("mae_f_mev_per_a", "force MAE", "meV/Å"),
    _error("mae_stress_mev_per_a3", "stress MAE", "meV/Å³"),
    Column(
        *("train_seconds", "training", "s", "seconds"),
        shown=("points", "cost"),
        metric="seconds",
        viewed=True,
    ),
    Column("gpu_hours", "GPU hours", shown=("cost",)),
    Column("epochs", "epochs", source="epochs", integer=True, shown=("cost",)),
    Column(*("best_epoch", "best epoch", "", "best_epoch"), integer=True, shown=("points", "cost")),
    Column("ended_by", "ended by", source="ended_by", shown=("cost",)),
    Column(
        *("peak_memory_mb", "memory", "MB", "peak_memory_mb"),
        integer=True,
        shown=("cost",),
        metric="peak_memory_mb",
    ),
    Column("reason", source="reason"),
)
BY_KEY = {row.key: row for row in ROWS}
ERRORS = tuple(row.key for row in ROWS if row.error)
AXES = tuple(row.key for row in ROWS if row.varied)  # of the grid, beside rank and alpha
ENERGY, FORCE = "rmse_e_mev_per_atom", "rmse_f_mev_per_a"  # which tables and figures show

# What MLflow calls the numbers of an epoch, by their keys in metrics.jsonl.  The errors of a merged
# model stand under the name of the set; on the validation set they are thus the last values of the
# curves of its training.
EPOCH_METRICS = {
    "train_loss": "train/loss",
    "valid_loss": "valid/loss",
    "valid_rmse_e_mev_per_atom": "valid/rmse_e_mev_per_atom",
    "valid_rmse_f_mev_per_a": "valid/rmse_f_mev_per_a",
    "lr": "train/lr",
}
SYSTEM = "system"  # key of an epoch that holds what it took of the machine, and MLflow's page of it


def shown_on(page: str) -> tuple[Column, ...]:
    """Return the columns of a page, in their order.

    Args:
        page: groups, points or cost.
    """
    return tuple(row for row in ROWS if page in row.shown)
