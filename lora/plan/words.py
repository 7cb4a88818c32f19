"""Words of messages: values as a user wrote them, and the name that was probably meant."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from lora.files.terminal import wrapped

SHOWN = 60  # characters of a value; more are cut


def shown(value: Any) -> str:
    """Return a value as YAML would write it, on one line and cut to `SHOWN` characters.

    Args:
        value: What the config holds.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # a list in itself; an int of thousands of digits
        text = f"a {type(value).__name__}"
    text = re.sub(r"//[^/\s]*@", "//***@", text)  # a user and a password
    text = re.sub(r"(?i)((?:pass\w*|pwd|token|secret|api_?key)[=:])[^&\s'\"]+", r"\1***", text)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" where a name resembles a known one, else an empty text.

    Args:
        name: What was given.
        known: The names that are known.
    """
    names = {x.lower().replace("-", "_"): x for x in known}
    wanted = str(name)[:200].lower().replace("-", "_")
    found = get_close_matches(wanted, list(names), 1, 0.6)
    return f"; did you mean {names[found[0]]}?" if found else ""


def in_lines(text: str) -> str:
    """Return a text with its long sentences in lines of the terminal's width.

    Tables and commands, in which words stand apart, stay as they are.

    Args:
        text: Lines.
    """
    lines = text.split("\n")
    return "\n".join(wrapped(x) if x and " ".join(x.split()) == x else x for x in lines)


def few(names: Iterable[Any], most: int = 12) -> str:
    """Return the first of some names: "a, b, ...".

    Args:
        names: The names.
        most: How many are named.
    """
    every = [str(x) for x in names]
    return ", ".join(every[:most]) + (", ..." if len(every) > most else "")


def listed(names: Iterable[Any], last: str = "or") -> str:
    """Return names as a list in a sentence: "a, b or c".

    Args:
        names: The names.
        last: The word before the last of them.
    """
    *first, end = map(str, names)
    return f"{', '.join(first)} {last} {end}" if first else end
