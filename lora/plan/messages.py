"""What is wrong with a config, in words: where, what, and what to do."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lora.plan.config import Config
from lora.plan.values import NO_LIST, SAID, As
from lora.plan.words import SHOWN, did_you_mean, listed, shown

Key = tuple[Any, ...]
TAGS = {"<text>", "<dict>", "<other>", "<one>", "<more>", "[key]"}
SECRET = ("tracking", "uri")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
REFERENCE = "see config/README.md"
MOST = 50  # mistakes that are put into words; a file with more is no config yet


class Problem(NamedTuple):
    """One mistake.

    Attributes:
        key: The parts of the key that has it.
        text: What is wrong and what to do; it follows the key in the message.
        about: Other keys that it depends on.
    """

    key: Key
    text: str
    about: tuple[Key, ...] = ()


def dotted(key: Key) -> str:
    """Return a key as messages name it: "grid.rank.0".

    Args:
        key: The parts of the key.
    """
    texts = [str(x).lower() if isinstance(x, bool) else str(x) for x in key]
    parts = [x if x.isprintable() else repr(x)[1:-1] for x in texts]
    return ".".join(x if len(x) <= SHOWN else f"{x[: SHOWN - 3]}..." for x in parts) or "top level"


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """Yield the mistakes that pydantic found, the first `MOST` of them in words.

    Args:
        error: Pydantic's error for a `Config`.
    """
    for number, detail in enumerate(error.errors(include_url=False)):
        *parents, last = detail["loc"]
        named = detail["type"] == "extra_forbidden" or last not in TAGS
        key: Key = (*(x for x in parents if x not in TAGS), *([last] if named else []))
        if detail["loc"][-1:] == ("[key]",) and isinstance(detail["input"], bool):
            key = (*key[:-1], detail["input"])
        value = "the value" if key[:2] == SECRET else shown(detail["input"])
        yield Problem(key, _text(detail, key, value) if number < MOST else "")


def _text(detail: ErrorDetails, key: Key, value: str) -> str:
    """Return what is wrong, and what to do."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == SAID:
        return str(context["message"])
    if kind == NO_LIST:
        return f"{value} is not a list; write {dotted(key[-1:])}: {context['example']}"
    if kind == "extra_forbidden":
        return unknown_key(key)
    if kind == "missing":
        return f"is missing; write it, {REFERENCE}"
    if kind in BOUNDS:
        name, word = BOUNDS[kind]
        return f"{value} must be {word} {context[name]:.15g}"
    if kind == "finite_number":
        return f"{value} is not a finite number; write one"
    if kind == "invalid_key" or (kind == "string_type" and detail["loc"][-1] == "[key]"):
        more = " (YAML reads no, on, yes and off as false and true)"
        boolean = isinstance(key[-1], bool)
        return f"the key is not text{more if boolean else ''}; put it in quotes"
    if kind in ("too_short", "string_too_short"):
        return f"{value} is empty; give at least one value, or leave the key out"
    return _wrong_type(detail, key, value)


def _wrong_type(detail: ErrorDetails, key: Key, value: str) -> str:
    """Return what to write in place of a value of another type."""
    kind, given = detail["type"], detail["input"]
    if kind in ("int_type", "float_type", "int_from_float", "int_parsing_size"):
        wanted = "a number" if kind == "float_type" else "a whole number"
        if isinstance(given, str) and NUMBER.fullmatch(given.strip()[:SHOWN]):
            return f"{value} is text, not {wanted}; write {_as_number(given)}"
        if kind != "float_type" and isinstance(given, float) and given.is_integer():
            if abs(given) < 1e15:
                return f"{value} is not a whole number as YAML has it; write {int(given)}"
            return f"{value} is too large"
        return f"{value} is not {wanted}"
    if kind == "string_type":
        if given is None:
            return f"null is not text; write a value, {REFERENCE}"
        remedy = f'; put it in quotes: "{value}"' if isinstance(given, (int, float)) else ""
        return f"{value} is not text{remedy}"
    if kind == "bool_type":
        return f"{value} is not true or false"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        names = list(model_at(key))
        example = f", for example {{{names[0]}: ...}}" if names else ""
        if given is None:
            return "is empty; write its keys below it, or leave it out"
        return f"{value} is not a mapping; write keys and values{example}"
    return f"{value} is not allowed here, {REFERENCE}"


def _as_number(text: str) -> str:
    """Return a number as YAML reads it: with a point before an exponent."""
    text = text.strip()
    match = re.fullmatch(r"([+-]?)(\d*)\.?(\d*)([eE])([+-]?)(\d+)", text)
    if not match or len(text) > 20 or len(match[6]) > 3:
        return f"{text[:SHOWN]} without quotes"
    sign, before, after, _, exponent_sign, exponent = match.groups()
    proper = f"{sign}{before or 0}.{after or 0}e{exponent_sign or '+'}{exponent}"
    plain = f"{float(text):.12f}".rstrip("0")
    same = float(plain) == float(text) and not plain.endswith(".")
    return f"{proper} or {plain}" if same else proper


def model_at(key: Key) -> dict[str, FieldInfo]:
    """Return the fields of the section at a key; none where it is no section.

    Args:
        key: The parts of the key of a section.
    """
    model: type[BaseModel] | None = Config
    for part in key:
        if isinstance(part, int) and not isinstance(part, bool):
            continue  # an item of a list of sections
        field = model.model_fields.get(part) if model else None
        model = _section_in(field) if field else None
    return model.model_fields if model else {}


def _section_in(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds, or a list of."""
    todo: list[Any] = [*(x.kind for x in field.metadata if isinstance(x, As)), field.annotation]
    while todo:
        kind = todo.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        todo += getattr(kind, "__args__", ())
    return None


def every_key(key: Key = ()) -> Iterator[Key]:
    """Yield every key of the config below one.

    Args:
        key: The parts of the key of a section.
    """
    for name in model_at(key):
        yield (*key, name)
        if len(key) < 4:
            yield from every_key((*key, name))


def unknown_key(key: Key) -> str:
    """Return what to say of a key that the config does not have.

    Args:
        key: The parts of the key.
    """
    *parents, name = key
    known = list(model_at(tuple(parents)))
    place = {
        ("checks", "settings"): "a check",
        ("select", "limits"): "a check",
        ("methods",): "a method",
    }.get(
        tuple(parents), f"a key of {dotted(tuple(parents))}" if parents else "a key of the config"
    )
    if parents[:2] == ["checks", "settings"] and len(parents) == 3:
        if not known:
            return f"the check {parents[2]} takes no settings; remove it"
        place = f"a setting of the check {parents[2]}"
    elsewhere = [dotted(x) for x in every_key() if x[-1] == name]
    if elsewhere:
        return f"is not {place}; did you mean {elsewhere[0]}?"
    if meant := did_you_mean(name, known):
        return f"is not {place}{meant}"
    names = f"use {listed(known)}" if len(known) < 16 else REFERENCE
    return f"is not {place}; {names}"


def in_order(problems: Iterable[Problem], raw: Mapping[Any, Any]) -> list[Problem]:
    """Return problems in the order of their keys in a config.

    Args:
        problems: The problems, in any order.
        raw: The config as it was read.
    """

    def place(problem: Problem) -> list[int]:
        found: list[int] = []
        value: Any = raw
        for part in problem.key:
            if isinstance(value, (list, tuple)) and isinstance(part, int):
                found.append(part)
                value = value[part] if part < len(value) else None
                continue
            keys = list(value) if isinstance(value, Mapping) else []
            found.append(keys.index(part) if part in keys else len(keys))
            value = value[part] if part in keys else None
        return found

    return sorted(problems, key=place)
