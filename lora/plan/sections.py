"""Sections of the config that are made from tables: training, targets, settings of checks."""

from dataclasses import MISSING, Field, fields
from types import GenericAlias
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as ModelField

from lora.catalogue import checks as catalogue
from lora.catalogue.methods import BY_NAME, TRAINED
from lora.plan.options import Option
from lora.plan.settings import OPTIONS, Targets, TrainSettings
from lora.plan.values import (
    TEXT,
    Count,
    Finite,
    integer,
    matching,
    number,
    one_of,
    one_or_more,
    tuple_of,
)


class Section(BaseModel):
    """A part of the config; unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """Return the keys that the user wrote, with their values."""
        return self.model_dump(exclude_unset=True)


def _kind(option: Option) -> Any:
    """Return the type that the config checks a value of an option as."""
    if option.choices:
        return one_of(option.choices)
    if option.pattern:
        return matching(option.pattern, option.rule)
    kinds = {bool: bool, int: integer(option.bounds), float: number(option.bounds), str: TEXT}
    return kinds[option.kind]


def _field(f: "Field[Any]") -> tuple[Any, Any]:
    """Return type and field of a section for one field of a settings dataclass."""
    option: Option = f.metadata["option"]
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    if isinstance(default, tuple):
        kind: Any = tuple_of(_kind(option), least=1 if default else 0)
    elif isinstance(default, dict):
        kind = GenericAlias(dict, (str, _kind(option)))
    else:
        kind = _kind(option)
    return kind, ModelField(default=default, description=option.help)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as pydantic takes them, without their types."""
    return fields


TargetsSection: type[Section] = create_model(
    "Targets",
    __base__=Section,
    __doc__="The layers that get adapters; patterns are globs over layer names.",
    **_given({f.name: _field(f) for f in fields(Targets)}),
)


def _training() -> dict[str, tuple[Any, Any]]:
    """Return the fields of a training section: those whose home is `train`."""
    found = {}
    for f in fields(TrainSettings):
        if f.name == "targets":
            help = f.metadata["option"].help
            found[f.name] = (
                TargetsSection,
                ModelField(default_factory=TargetsSection, description=help),
            )
        elif f.metadata["option"].home == "train":
            found[f.name] = _field(f)
    return found


Training: type[Section] = create_model(
    "Training",
    __base__=Section,
    __doc__="Settings of a training, named as in mace_run_train.",
    **_given(_training()),
)


def _section_of(check: catalogue.Check) -> tuple[Any, Any]:
    """Return type and field for the settings of one check."""
    made = {
        s.name: (
            integer(s.bounds) if s.whole else number(s.bounds),
            ModelField(
                default=s.default,
                description=f"{s.description[:-1]} ({s.unit})." if s.unit else s.description,
            ),
        )
        for s in check.settings
    }
    kind = create_model(
        f"SettingsOf{check.name.capitalize()}",
        __base__=Section,
        __doc__=f"Settings of the check {check.name}.",
        **_given(made),
    )
    help = f"The settings of the check {check.name}: {check.meaning}."
    return kind, ModelField(default_factory=kind, description=help)


CheckSettings: type[Section] = create_model(
    "CheckSettings",
    __base__=Section,
    __doc__="Settings of the checks that take some.",
    **_given({row.name: _section_of(row) for row in catalogue.ROWS}),
)
Limits: type[Section] = create_model(
    "Limits",
    __base__=Section,
    __doc__="Limits of checks in place of their own; null lifts a limit.",
    **_given(
        {
            row.name: (
                Finite | None,
                ModelField(
                    default=row.limit,
                    description=f"The limit of {row.name}; by default {row.limit_text()}.",
                ),
            )
            for row in catalogue.ROWS
        }
    ),
)
SWEPT = ("lr", "ema_decay", "clip_grad")  # settings that a method can have a list of


def _swept(name: str) -> tuple[Any, Any]:
    """Return type and field of a setting that is a number or a list of them."""
    option = OPTIONS[name]
    help = f"{option.help} A list is swept: every value is a point."
    return one_or_more(_kind(option)), ModelField(default=None, description=help)


MethodTraining: type[Section] = create_model(
    "MethodTraining",
    __base__=Training,
    __doc__="Settings of the trainings of one method; lists are swept.",
    **_given({name: _swept(name) for name in SWEPT}),
)
Methods: type[Section] = create_model(
    "Methods",
    __base__=Section,
    __doc__="Settings that differ for one method.",
    **_given(
        {
            name: (
                MethodTraining,
                ModelField(
                    default_factory=MethodTraining,
                    description=f"Settings of the method {name}, which trains "
                    f"{BY_NAME[name].trains}; they win over train.",
                ),
            )
            for name in TRAINED
        }
    ),
)
__all__ = ["CheckSettings", "Count", "Limits", "Methods", "Section", "Targets", "Training"]
