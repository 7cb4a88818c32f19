"""What the project knows of one setting: its type, bounds, choices and help."""

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from lora.catalogue.bounds import FREE, Bounds
from lora.catalogue.methods import BY_NAME, TRAINED
from lora.plan.words import listed

METHOD_DEFAULTS = {name: BY_NAME[name].defaults() for name in TRAINED}
Home = Literal["train", "grid", "point"]  # where the config sets it; "point": the plan does


@dataclass(frozen=True)
class Option:
    """What is known of one setting besides its name, type and default.

    Attributes:
        help: One or more sentences, with the unit.
        kind: The type of a value: int, float, bool, str or dict; of the items of a tuple or dict.
        bounds: The numbers that are allowed.
        choices: The values that are allowed; empty means all.
        pattern: A regular expression that a text has to match as a whole.
        rule: What is wrong with a text that does not match, and what to write.
        home: The part of the config that sets it.
    """

    help: str
    kind: type
    bounds: Bounds = FREE
    choices: tuple[Any, ...] = ()
    pattern: str = ""
    rule: str = ""
    home: Home = "train"

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, as the end of a sentence; empty if nothing is.

        Args:
            value: The value to look at.
        """
        if self.choices and value not in self.choices:
            return f"is not one of {', '.join(map(str, self.choices))}{closest(value, self)}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind in (int, float) and not number:
            return "is not a number"
        if self.kind is int and not float(value).is_integer():
            return "is not a whole number"
        if self.kind is bool and not isinstance(value, bool):
            return "is not true or false"
        if self.kind in (int, float) and not self.bounds.admits(value):
            return f"must be {self.bounds}"
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            return self.rule
        if self.kind in (int, float) and not math.isfinite(value):
            return "must be a finite number"
        return ""


def closest(value: Any, option: Option) -> str:
    """Return "; did you mean ...?" where a choice resembles a value, else an empty text.

    Args:
        value: What was given.
        option: The setting with its choices.
    """
    found = get_close_matches(str(value), list(map(str, option.choices)), 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def option_field(default: Any, help: str, kind: type, **more: Any) -> Any:
    """Return a dataclass field that carries an `Option`.

    Args:
        default: The default of the field.
        help: One or more sentences.
        kind: The type of a value.
        **more: Further attributes of the option.
    """
    metadata = {"option": Option(help, kind, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def by_method(name: str) -> str:
    """Return the defaults of a setting for each method, in words.

    Args:
        name: The setting: lr, ema_decay or clip_grad.
    """
    methods: dict[float, list[str]] = {}
    for method, defaults in METHOD_DEFAULTS.items():
        methods.setdefault(defaults[name], []).append(method)
    return "; ".join(f"{value:g} for {listed(who, 'and')}" for value, who in methods.items())
