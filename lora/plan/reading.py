"""A config file read strictly: every mistake in it is one line with the file and its line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lora.errors import UserErrors
from lora.plan.words import SHOWN, shown

MAX_BYTES = 2_000_000  # of a config file
MAX_WRITTEN = 50_000  # values as they are written, which take YAML seconds
DIGITS = 100  # of a whole number
MAX_NODES = 100_000  # values of a config, once its aliases are written out
EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?[0-9][0-9_]*\.[0-9_]*[eE][0-9]+")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Positions:
    """The lines of the keys of a file.

    Attributes:
        file: The file, as messages name it.
        lines: The line of each key, counted from 1.
    """

    file: str
    lines: dict[Key, int] = field(default_factory=dict)

    def where(self, *keys: Key) -> str:
        """Return the place of a key, or of the section that should hold it.

        Args:
            *keys: The parts of the key, under each name that it may have.
        """
        for key in keys:
            if key in self.lines:
                return f" ({self.file}, line {self.lines[key]})"
        parents = [key[:-1] for key in keys if key]
        return self.where(*parents) if parents else f" ({self.file})"


class ConfigFile(NamedTuple):
    """What a config file holds.

    Attributes:
        values: The config as YAML holds it.
        positions: The lines of its keys.
        warnings: What other programs read otherwise, one line each.
    """

    values: dict[Any, Any]
    positions: Positions
    warnings: list[str]


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """PyYAML's safe loader, which reads 1e-3 as a number and dates as text, and not for ever."""

    composed = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        self.composed += 1
        if self.composed > MAX_WRITTEN:
            raise yaml.YAMLError(f"more than {MAX_WRITTEN} values")
        return super().compose_node(parent, index)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
FLOAT, INT = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"
ODD = re.compile(r"[_:xb]|^[-+]?0[0-9]")  # 1_000, 1:30, 0x1F, 0b11, and octal 010
Loader.add_implicit_resolver(FLOAT, re.compile(f"^(?:{EXPONENT.pattern})$"), list("-+0123456789"))


def read_config(path: Path) -> ConfigFile:
    """Return what a config file holds.

    Args:
        path: The YAML file.

    Raises:
        UserErrors: The file cannot be read, or is not a mapping in sound YAML.
    """
    file = str(path)
    text = _text_of(path)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise UserErrors([f"{file}: holds no config; write keys and values"])
        _count(node, file)
        errors, positions, warnings = _look_through(node, file)
        if errors:
            raise UserErrors(errors)
        values = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise UserErrors([_said(error, file, text)]) from None
    except yaml.YAMLError as error:
        raise UserErrors([f"{file}: cannot be read as YAML ({_first_line(error)})"]) from None
    except RecursionError:
        raise UserErrors([f"{file}: is nested too deeply for a config"]) from None
    except (ValueError, OverflowError, TypeError) as error:
        message = f"{file}: holds a value that cannot be read ({_first_line(error)})"
        raise UserErrors([message]) from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        wrong = shown(values)
        raise UserErrors([f"{file} line 1: {wrong} is not a mapping; write keys and values"])
    return ConfigFile(values, Positions(file, positions), warnings)


def _text_of(path: Path) -> str:
    """Return the text of a file that can be a config."""
    try:
        if path.is_dir():
            raise UserErrors([f"{path}: is a folder; give a YAML file"])
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserErrors([f"{path}: cannot be opened ({why.lower()})"]) from None
    if len(content) > MAX_BYTES:
        raise UserErrors(
            [f"{path}: is larger than {MAX_BYTES // 10**6} MB, too large for a config"]
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserErrors([f"{path} line {line}: is not UTF-8; save the file as UTF-8"]) from None
    if found := re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", text):
        line = text[: found.start()].count("\n") + 1
        name = "NUL" if found[0] == "\x00" else f"control character (U+{ord(found[0]):04X})"
        raise UserErrors([f"{path} line {line}: holds a {name}; remove it"])
    return text


def _said(error: yaml.MarkedYAMLError, file: str, text: str) -> str:
    """Return what is wrong with the YAML of a file, in a line with its place."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem, context = error.problem or "", error.context or ""
    lines = text.splitlines()
    shown_line = lines[line - 1] if line <= len(lines) else ""
    if "'\\t'" in problem or re.match(r" *\t", shown_line):
        why = "holds a tab; YAML indents with spaces only"
    elif "while parsing a flow" in context and error.context_mark:
        opened, bracket = error.context_mark.line + 1, "[" if "sequence" in context else "{"
        line, why = opened, f"the bracket {bracket} is not closed, or a comma is missing after it"
    elif "quoted scalar" in context and error.context_mark:
        line, why = error.context_mark.line + 1, "the quotation mark is not closed"
    elif "mapping values are not allowed" in problem:
        why = "has a colon too many, or is indented wrongly; put text with a colon in quotes"
    elif "expected <block end>" in problem:
        why = "is not indented like the lines above it"
    elif "could not find expected ':'" in problem:
        line = error.context_mark.line + 1 if error.context_mark else line
        why = "is no key with a value; is a colon missing?"
    elif "undefined alias" in problem:
        why = "uses an alias (*) that no anchor (&) defines; put text that begins with * in quotes"
    elif "could not determine a constructor" in problem:
        why = "has a YAML tag (!); write plain values"
    elif "single document" in context:
        why = "begins a second document (---); a config is one"
    else:
        why = f"cannot be read as YAML ({problem[:SHOWN]})"
    return f"{file} line {line}: {why}"


def _first_line(error: Exception) -> str:
    """Return the first line of an error, cut."""
    return (str(error).splitlines() or [type(error).__name__])[0][:SHOWN]


def _count(node: yaml.Node, file: str) -> None:
    """Raise an error if aliases make a config far larger than it looks, or endless."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(one: yaml.Node) -> int:
        if id(one) in inside:
            line = one.start_mark.line + 1
            raise UserErrors([f"{file} line {line}: holds itself through an alias; remove it"])
        if id(one) not in sizes:
            inside.add(id(one))
            parts = one.value if isinstance(one, yaml.CollectionNode) else []
            flat = [x for part in parts for x in (part if isinstance(part, tuple) else (part,))]
            sizes[id(one)] = 1 + sum(size(x) for x in flat)
            inside.discard(id(one))
        return sizes[id(one)]

    if size(node) > MAX_NODES:
        raise UserErrors([f"{file}: its aliases hold more than {MAX_NODES} values; write less"])


def _look_through(top: yaml.Node, file: str) -> tuple[list[str], dict[Key, int], list[str]]:
    """Return the keys that stand twice, the lines of all keys, and what numbers are for YAML."""
    errors: list[str] = []
    lines: dict[Key, int] = {}
    warnings: list[str] = []

    def visit(node: yaml.Node, key: Key) -> None:
        if isinstance(node, yaml.ScalarNode):
            warnings.extend(_odd_number(node, file))
            if node.tag == INT and len(node.value) > DIGITS:
                why = f"holds a value that cannot be read (a number of {len(node.value)} digits)"
                errors.append(f"{file} line {node.start_mark.line + 1}: {why}")
        elif isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                lines.setdefault((*key, i), item.start_mark.line + 1)
                visit(item, (*key, i))
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for name, value in node.value:
                line = name.start_mark.line + 1
                if name.tag.endswith(":merge"):
                    continue  # what an anchor holds has lines of its own
                text = str(name.value)[:SHOWN]
                if text in first:
                    errors.append(
                        f"{file} line {line}: {text} stands in line {first[text]} already; "
                        "remove one of them"
                    )
                first.setdefault(text, line)
                part = name.value if name.tag.endswith(":str") else _plain(name)
                lines.setdefault((*key, part), line)
                visit(value, (*key, part))

    visit(top, ())
    return errors, lines, warnings


def _odd_number(node: yaml.ScalarNode, file: str) -> Iterator[str]:
    """Yield the warning for a number that others read otherwise, or that may seem another one."""
    if node.tag not in (INT, FLOAT) or node.style is not None:
        return
    if node.tag == FLOAT and EXPONENT.fullmatch(node.value):
        yield _as_text(node, file)
    elif ODD.search(node.value) and len(node.value) <= DIGITS:
        line, value = node.start_mark.line + 1, _plain(node)
        yield f"{file} line {line}: {node.value[:SHOWN]} is {value} in YAML; write {value}"


def _plain(node: yaml.Node) -> Any:
    """Return the value of a key that is not text."""
    loader = Loader("")
    try:
        value = loader.construct_object(node, deep=True)
        return value if isinstance(value, (bool, int, float, type(None))) else str(value)
    finally:
        loader.dispose()


def _as_text(node: yaml.ScalarNode, file: str) -> str:
    """Return the warning for a number that Snakemake reads as text."""
    value = float(node.value.replace("_", ""))
    text = repr(value) if "e" not in repr(value) else f"{value:.15g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    digits = mantissa.rstrip("0") + ("0" if mantissa.rstrip("0").endswith(".") else "")
    proper = text if "e" not in text else f"{digits}e{int(exponent):+d}"
    line = node.start_mark.line + 1
    return f"{file} line {line}: Snakemake reads {node.value} as text; write {proper}"
