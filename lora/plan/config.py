"""The config of a sweep: every key with its type, bounds, default and meaning, once.

The JSON schema and the tables of config/README.md are made from these models.
"""

from typing import Annotated, Any

from pydantic import Field

from lora.catalogue import checks as check_rows
from lora.catalogue import engines as engine_rows
from lora.catalogue.bounds import Bounds
from lora.catalogue.methods import ADAPTERS, BASELINES, BY_NAME, DTYPES, EARLIER
from lora.plan.config_data import Audit, Data, E0s, Foundation, Split
from lora.plan.config_grid import Grid
from lora.plan.config_keep import Keep
from lora.plan.config_race import RACE, Polish, Race, Rules
from lora.plan.sections import SWEPT, CheckSettings, Limits, Methods, Section, Training
from lora.plan.settings import DEFAULTS, OPTIONS, TrainSettings
from lora.plan.values import (
    As,
    Count,
    FilePath,
    NotNegative,
    Seed,
    Text,
    integer,
    matching,
    name_or,
    number,
    one_of,
    tuple_of,
)

REPLAY_LABELS = ("foundation", "file")
METRICS = ("rmse_f_mev_per_a", "mae_f_mev_per_a", "rmse_e_mev_per_atom", "mae_e_mev_per_atom")
MODEL_RULE = "is no name of a model; use letters, digits, spaces and _.-, a letter or digit first"
FEW = 100  # points whose merged models are all kept, where the config leaves it open
CHECK_LIST = tuple_of(one_of(check_rows.NAMES))


class Pack(Section):
    """LoRA points that train in one process over one frozen base, each as it would alone."""

    size: Annotated[int | str, As(name_or(("auto",), Count, "a whole number"))] = Field(
        default="auto",
        description="The largest number of points of one seed that share a process (a job, a GPU) "
        "and each of its steps. Fewer share a step where the cache of a CPU or the memory of a GPU "
        "asks for it. auto is 8 with a GPU, else as many as the cores leave, up to 4.",
    )
    gpus: Count = Field(
        default=1,
        description="The number of GPUs (without a GPU: processes) of one training, which share "
        "each of its batches. More than 1 pays only for large structures and large batches; a grid "
        "keeps many GPUs busy without it.",
    )


class Replay(Section):
    """Structures that remind a training of the foundation model, for points with replay."""

    file: FilePath | None = Field(
        default=None,
        description="Structures of the foundation model's own kind; null means none.",
    )
    labels: Annotated[str, As(one_of(REPLAY_LABELS))] = Field(
        default="foundation",
        description="The origin of the labels: foundation takes the foundation model's own "
        "predictions, made once for the sweep; file takes those of the file, with the keys of "
        "data, at the foundation model's own level of theory.",
    )
    num_samples: Count = Field(
        default=1000, description="The largest number of structures, chosen at random."
    )
    seed: Seed = Field(default=0, description="The random seed for choosing replay structures.")
    weight: NotNegative = Field(
        default=int(DEFAULTS["replay_weight"]), description=OPTIONS["replay_weight"].help
    )


class Checks(Section):
    """What test sets do not tell: the names of checks in three tiers, and their settings."""

    quick: Annotated[tuple[str, ...], As(CHECK_LIST)] = Field(
        default=check_rows.of_tier("quick"),
        description="The checks of every point that take seconds.",
    )
    standard: Annotated[tuple[str, ...], As(CHECK_LIST)] = Field(
        default=check_rows.of_tier("standard"),
        description="The checks of every point that take minutes.",
    )
    thorough: Annotated[tuple[str, ...], As(CHECK_LIST)] = Field(
        default=check_rows.of_tier("thorough"),
        description="The long checks, of the best points only.",
    )
    winners: Count = Field(
        default=3,
        description="The number of points, the best so far, that get the thorough checks. Only "
        "these can be chosen, unless all of them are refused.",
    )
    holdout_file: FilePath | None = Field(
        default=None,
        description="Structures labelled at the foundation model's own level of theory, for the "
        "check forgetting, with the keys of data; null means none.",
    )
    settings: Annotated[Section, As(CheckSettings)] = Field(
        default_factory=CheckSettings,
        description="Settings of single checks, for example {holes: {structures: 100}}.",
    )

    @property
    def of_every_point(self) -> tuple[str, ...]:
        """Return the checks that every point gets."""
        return self.quick + self.standard


class Select(Section):
    """The choice of the best point, on the validation set alone."""

    metric: Annotated[str, As(one_of(METRICS))] = Field(
        default="rmse_f_mev_per_a",
        description="The error that is compared; the lowest wins (meV/Å or meV/atom).",
    )
    limits: Annotated[Section, As(Limits)] = Field(
        default_factory=Limits,
        description="Limits of checks in place of their own, for example {forgetting: 3}; null "
        "lifts a limit. A point over a limit is not chosen.",
    )


class Trust(Section):
    """Bounds of the chosen model's force errors, calibrated on the validation set."""

    coverage: Annotated[float, As(number(Bounds(ge=0.5, le=0.99)))] = Field(
        default=0.9,
        description="The share of force components, and of structures by their largest force "
        "error, that the bounds are made to hold for.",
    )


class Tracking(Section):
    """The MLflow store that the runs of the sweep are written to."""

    uri: Text | None = Field(
        default=None,
        description="The tracking server; null means an SQLite file in the results folder. "
        "Credentials belong in the environment (MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN), never here; they are sent only where "
        "MLFLOW_TRACKING_URI there names the same server.",
    )
    experiment: Text = Field(
        default="mace-lora-sweep", description="The name of the MLflow experiment."
    )
    model: Annotated[str, As(matching(r"[A-Za-z0-9][A-Za-z0-9_. -]*", MODEL_RULE))] | None = Field(
        default=None,
        description="The name of the registered model: letters, digits, spaces and _.-. null means "
        "base and data, as in base-on-water; on a server with the sweep's id.",
    )
    live: bool = Field(
        default=False,
        description="Send each epoch to the server while trainings run. It costs them nothing, "
        "also where the server is down; what it misses is filled in at the end. It needs a server "
        "in uri. Switching it retrains nothing.",
    )


class Export(Section):
    """Files of the chosen model for simulation engines."""

    engines: Annotated[tuple[str, ...], As(tuple_of(one_of(engine_rows.NAMES)))] = Field(
        default=engine_rows.DEFAULT,
        description="The engines that files are written for, and in which they are run and "
        "compared with the merged model. An engine that is not installed is reported as not "
        "checked. An empty list exports nothing.",
    )
    dtype: Annotated[str | None, As(one_of(DTYPES) | None)] = Field(
        default=None,
        description="The precision of the exported weights; null means that of the training.",
    )
    steps: Annotated[int, As(integer(Bounds(ge=100, le=10**9)))] = Field(
        default=100,
        description="The number of MD steps (0.5 fs, constant energy) in each engine.",
    )
    data_licence: Text | None = Field(
        default=None,
        description="The licence of the data, for the card; null means that it is not known.",
    )


class Config(Section):
    """The configuration of a sweep."""

    results: FilePath = Field(default="results", description="The folder of all results.")
    foundation: Foundation
    data: Data
    split: Split = Field(default_factory=Split)
    audit: Audit = Field(default_factory=Audit)
    e0s: E0s = Field(default_factory=E0s)
    grid: Grid = Field(default_factory=Grid)
    race: Annotated[bool | Race, As(RACE)] = Field(
        default=False,
        description="Whether the settings of a method race: all begin with one seed, the better "
        "part goes on at each rung, and the finalists train with all seeds to the end. on takes "
        "the defaults of the section race; a mapping of its keys turns it on, too.",
    )
    pack: Pack = Field(default_factory=Pack)
    rank_curve: bool = Field(
        default=False,
        description="Cut the training of the highest rank to every lower rank of the grid by SVD, "
        "and evaluate the cut models beside the trained ones.",
    )
    baselines: Annotated[tuple[str, ...], As(tuple_of(one_of(BASELINES)))] = Field(
        default=("foundation", "full", "freeze"),
        description="Points to compare with: foundation gets new E0s only; full trains all "
        "weights; freeze trains the layers that methods.freeze.freeze_level leaves; full_replay "
        "trains all weights with replay.",
    )
    train: Annotated[Section, As(Training)] = Field(default_factory=Training)
    methods: Annotated[Section, As(Methods)] = Field(default_factory=Methods)
    replay: Replay = Field(default_factory=Replay)
    keep: Keep = Field(default_factory=Keep)
    checks: Checks = Field(default_factory=Checks)
    select: Select = Field(default_factory=Select)
    trust: Trust = Field(default_factory=Trust)
    tracking: Tracking = Field(default_factory=Tracking)
    export: Export = Field(default_factory=Export)
    keep_models: Annotated[str, As(one_of(("auto", "all", "finalists")))] = Field(
        default="auto",
        description="The merged models that stay on the disk; adapters always do. finalists means "
        "those that got the thorough checks, the chosen one and the foundation model; auto means "
        f"all of up to {FEW} points, and the finalists of more.",
    )
    on_upgrade: Annotated[str, As(one_of(("ask", "retrain", "keep")))] = Field(
        default="ask",
        description="What to do where trained points were made by another version of the code: "
        "ask stops before anything runs and names them with their cost; retrain trains them again; "
        "keep uses them as they are.",
    )

    @property
    def rules(self) -> Rules | None:
        """Return how settings race; None where all train to the end."""
        if isinstance(self.race, bool):
            return Race().rules() if self.race else None
        return self.race.rules()

    @property
    def race_checks(self) -> tuple[str, ...]:
        """Return the checks that are run at the rungs of a race."""
        return () if isinstance(self.race, bool) else self.race.checks

    @property
    def polish(self) -> Polish | None:
        """Return how a race polishes the ranks that it cuts; None where each rank is trained."""
        return self.rules.polish if self.rules else None

    def settings_of(self, name: str) -> dict[str, Any]:
        """Return the training settings that the user wrote for a method.

        Args:
            name: A key of `methods`: lora, full, freeze or full_replay.

        Returns:
            The settings; of one that is swept, the first value.
        """
        own: Section = getattr(self.methods, name)
        given = self.train.given() | own.given()
        return {key: x[0] if _is_swept(key, x) else x for key, x in given.items()}

    def swept(self, name: str) -> dict[str, tuple[float, ...]]:
        """Return the settings of a method that are swept, with their values.

        Args:
            name: A key of `methods`: lora, full, freeze or full_replay.
        """
        own: Section = getattr(self.methods, name)
        found = {key: x for key, x in own.given().items() if _is_swept(key, x)}
        if name in ADAPTERS and self.grid.lr:
            found["lr"] = self.grid.lr
        elif "lr" not in self.settings_of(name):
            found |= {"lr": BY_NAME[name].rates} if BY_NAME[name].rates else {}
        return {key: found[key] for key in SWEPT if key in found}

    def starts_of(self, name: str) -> dict[str, str]:
        """Return the starts of a kind of adapter, each with its mark in names.

        The start that it would have if the grid named none has no mark: adding others to the grid
        renames nothing.  Starts that a kind does not have are left out.

        Args:
            name: A key of `methods` that trains adapters.
        """
        own = self.settings_of(name).get("start", DEFAULTS["start"])
        known = [x for x in self.grid.start or (own,) if BY_NAME[name].has_start(x)]
        return {x: "" if x == own else f"_{x}" for x in known}

    @property
    def starts_from(self) -> list[str]:
        """Return the adapters that trainings go on from, as the config names them."""
        kinds = [x for x in self.grid.adapter if EARLIER in self.starts_of(x)]
        found = (self.settings_of(x).get("start_from") for x in kinds)
        return list(dict.fromkeys(str(x) for x in found if x))

    def train_settings(self, name: str, **point: Any) -> TrainSettings:
        """Return the settings of a training of a method, with the defaults filled in.

        Args:
            name: A key of `methods`: lora, full, freeze or full_replay.
            **point: Settings of the point itself; they win over the config.

        Raises:
            UserError: The settings contradict each other.
        """
        return TrainSettings.from_dict(self.settings_of(name) | point).resolved()

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON holds it; `Config.model_validate` gives the same one back.

        All defaults are filled in, but for the sections that only override settings of others:
        train, methods, checks.settings and select.limits hold what the user wrote.
        """
        whole = self.model_dump()
        for name in ("train", "methods"):
            whole[name] = getattr(self, name).given()
        whole["checks"]["settings"] = self.checks.settings.given()
        whole["select"]["limits"] = self.select.limits.given()
        plain: dict[str, Any] = _with_lists(whole)
        return plain


def _is_swept(name: str, value: Any) -> bool:
    """Return True for the list of values of a setting that is swept."""
    return name in SWEPT and isinstance(value, tuple)


def _with_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, at every depth."""
    if isinstance(value, dict):
        return {key: _with_lists(x) for key, x in value.items()}
    return [_with_lists(x) for x in value] if isinstance(value, (list, tuple)) else value
