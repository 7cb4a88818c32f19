"""Types of the values in a config: strict, with messages that say what to do.

An error that ends here has the type "said", and its message is shown as it is; all others are put
into words by `lora.plan.messages`.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from lora.catalogue.bounds import COUNT, FREE, NOT_NEGATIVE, POSITIVE, SEED, Bounds
from lora.catalogue.elements import SYMBOLS
from lora.plan.words import did_you_mean, listed, shown

SAID = "said"  # the type of errors whose message is complete
NO_LIST = "no_list"  # the type of errors whose message shows how to write a list


def said(message: str) -> PydanticCustomError:
    """Return an error whose message is shown as it is.

    Args:
        message: The end of a sentence that begins with the key.
    """
    return PydanticCustomError(SAID, "{message}", {"message": message})


def whole(value: float) -> float:
    """Return 8 for 8.0, so that equal numbers have equal names.

    Args:
        value: A finite number.
    """
    if not math.isfinite(value):
        raise said(f"{value} is not a finite number; write one")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def within(bounds: Bounds) -> dict[str, float]:
    """Return bounds as arguments of pydantic's Field.

    Args:
        bounds: The bounds.
    """
    return {k: v for k, v in vars(bounds).items() if v is not None}


def number(bounds: Bounds) -> Any:
    """Return the type of a number within bounds; whole floats become ints.

    Args:
        bounds: The bounds.
    """
    limits: dict[str, Any] = within(bounds)
    return Annotated[float, Field(**limits), AfterValidator(whole)]


def integer(bounds: Bounds) -> Any:
    """Return the type of a whole number within bounds.

    Args:
        bounds: The bounds.
    """
    limits: dict[str, Any] = {k: int(v) for k, v in within(bounds).items()}
    return Annotated[int, Field(**limits)]


def one_of(choices: Iterable[Any], more: str = "") -> Any:
    """Return the type of a value that is one of some.

    Args:
        choices: The allowed values.
        more: What else could stand there, for the message.
    """
    known = tuple(choices)
    names = [*known, more] if more else known

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, type(known[0])) or value not in known:
            meant = did_you_mean(value, map(str, known)) if isinstance(value, str) else ""
            raise said(f"{shown(value)} is not one of {listed(names)}{meant}")
        return value

    return Annotated[Any, BeforeValidator(check), WithJsonSchema({"enum": list(known)})]


def known_as(names: Iterable[str], what: str) -> Any:
    """Return the type of a text that is one of more names than a message can list.

    Args:
        names: The names.
        what: What they are the names of, for the message.
    """
    known = tuple(names)

    def check(value: str) -> str:
        if value not in known:
            meant = did_you_mean(value, known) or "; config/README.md lists them"
            raise said(f"{shown(value)} is not the name of {what}{meant}")
        return value

    return Annotated[str, AfterValidator(check)]


def as_list(value: Any) -> Any:
    """Return a list as a tuple, and say how to write anything else as a list.

    Args:
        value: What the config holds.
    """
    if isinstance(value, (list, tuple)):
        return tuple(value)
    if isinstance(value, (dict, set)):
        raise said(f"{shown(value)} is not a list; write its items between [ and ]")
    example = "[]" if value is None else f"[{as_yaml(value)}]"
    raise PydanticCustomError(NO_LIST, "no list", {"example": example})


def as_yaml(value: Any) -> str:
    """Return a plain value as YAML writes it, without quotes.

    Args:
        value: Text, a number or a truth value.
    """
    return shown(value) if not isinstance(value, str) else shown(value)[1:-1]


def no_twice(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a tuple in which nothing stands twice.

    Args:
        values: The items, checked.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise said(f"{shown(value)} stands in it twice; remove one of them")
        seen.add(value)
    return values


def tuple_of(item: Any, least: int = 0) -> Any:
    """Return the type of a list of different values.

    Args:
        item: The type of its items.
        least: The smallest number of items.
    """
    extra: dict[str, Any] = {"uniqueItems": True} | ({"minItems": least} if least else {})

    def check(value: Any) -> Any:
        items = as_list(value)
        if len(items) < least:
            raise said("[] is empty; give at least one value, or leave the key out")
        return items

    return Annotated[
        tuple[item, ...],
        BeforeValidator(check),
        Field(json_schema_extra=extra),
        AfterValidator(no_twice),
    ]


def _clean(value: str) -> str:
    """Return text without control characters."""
    if found := re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value):
        names = {"\x00": "a NUL character", "\n": "a line end", "\t": "a tab"}
        what = names.get(found[0], "a control character")
        raise said(f"{shown(value)} holds {what}; remove it")
    return value


def _path(value: str) -> str:
    """Return a path that Snakemake, MLflow and a shell can work with."""
    if found := re.search(r"[{}?<>]", value):
        raise said(
            f"{shown(value)} holds {found[0]!r}, which Snakemake or MLflow reads as a pattern; "
            "rename the file or folder"
        )
    if value.startswith("-"):
        raise said(f"{shown(value)} begins with -, like an option; begin it with ./")
    if value.startswith("~"):
        raise said(f"{shown(value)} begins with ~, which only a shell expands; write the path out")
    return value


def _pattern(pattern: str, rule: str) -> Callable[[str], str]:
    """Return a check that text matches a pattern as a whole."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise said(f"{shown(value)} {rule}")
        return value

    return check


def matching(pattern: str, rule: str) -> Any:
    """Return the type of a text that matches a pattern as a whole.

    Args:
        pattern: The regular expression.
        rule: The end of the sentence that refuses another text.
    """
    return Annotated[
        str,
        AfterValidator(_pattern(pattern, rule)),
        Field(json_schema_extra={"pattern": f"^({pattern})$"}),
    ]


def _element(value: str) -> str:
    """Return the symbol of an element."""
    if value not in SYMBOLS:
        meant = value.capitalize() if value.capitalize() in SYMBOLS else ""
        raise said(
            "is not the symbol of an element" + (f"; did you mean {meant}?" if meant else "")
        )
    return value


def kind_of(value: Any) -> str:
    """Return the tag of a union: what kind of value it is.

    Args:
        value: What the config holds.
    """
    return (
        "<dict>" if isinstance(value, dict) else "<text>" if isinstance(value, str) else "<other>"
    )


class As:
    """Metadata of an annotation: the value is checked as another type than the static one."""

    def __init__(self, kind: Any) -> None:
        """Keep the type.

        Args:
            kind: The type that pydantic checks.
        """
        self.kind = kind

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> Any:
        """Return pydantic's schema of the type."""
        return handler.generate_schema(self.kind)


TEXT = Annotated[str, Field(min_length=1), AfterValidator(_clean)]
PATH = Annotated[str, Field(min_length=1), AfterValidator(_clean), AfterValidator(_path)]
Text = Annotated[str, As(TEXT)]
FilePath = Annotated[str, As(PATH)]
Positive = Annotated[float, As(number(POSITIVE))]
NotNegative = Annotated[float, As(number(NOT_NEGATIVE))]
Finite = Annotated[float, As(number(FREE))]
Count = Annotated[int, As(integer(COUNT))]
Seed = Annotated[int, As(integer(SEED))]
Element = Annotated[str, AfterValidator(_element)]


def name_or(choices: Iterable[str], other: Any, more: str, mapping: bool = False) -> Any:
    """Return the type of a value that is one of some names, or of another type.

    Args:
        choices: The names.
        other: The other type.
        more: The other type in words, for messages.
        mapping: Whether the other type is a mapping.
    """
    names = one_of(choices, more)
    return Annotated[
        Annotated[names, Tag("<text>")]
        | Annotated[other if mapping else names, Tag("<dict>")]
        | Annotated[names if mapping else other, Tag("<other>")],
        Discriminator(kind_of),
    ]


def one_or_more(item: Any) -> Any:
    """Return the type of a value, or of a list of different values.

    Args:
        item: The type of a value.
    """
    return Annotated[
        Annotated[item, Tag("<one>")] | Annotated[tuple_of(item, least=1), Tag("<more>")],
        Discriminator(lambda value: "<more>" if isinstance(value, (list, tuple)) else "<one>"),
    ]
