"""The JSON schema and the tables of config/README.md and docs/from_mace.md, made from the models.

python -m lora.plan.reference           writes all
python -m lora.plan.reference --check   exits with 1 where one is out of date
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from lora.catalogue import checks, engines, findings, foundations, mace_options, made, methods
from lora.plan.config import Config
from lora.plan.from_mace import MISSING, default_of, leaf, relation
from lora.plan.options import METHOD_DEFAULTS
from lora.plan.words import listed

ROOT = Path(__file__).parents[2]
SCHEMA, README = Path("workflow/schemas/config.schema.yaml"), Path("config/README.md")
FROM_MACE = Path("docs/from_mace.md")
HEADER = """\
# Generated from lora/plan/config.py by `python -m lora.plan.reference`; do not edit.
# For editors: put this line at the top of a config of your own,
#     # yaml-language-server: $schema=workflow/schemas/config.schema.yaml
"""
MARK = re.compile(r"(<!-- generated: ([a-z0-9_.]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
KEYS = ("description", "default", "type", "enum", "anyOf", "properties", "items", "$ref")
NUMBERS = {"minimum": "at least", "exclusiveMinimum": "above"}
NUMBERS |= {"maximum": "at most", "exclusiveMaximum": "below"}
LARGE = 10**9  # bounds from here on are not worth a word in a table


def schema() -> dict[str, Any]:
    """Return the JSON schema of the config."""
    made: dict[str, Any] = _plain(Config.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def _plain(node: Any) -> Any:
    """Return a schema without titles and with each alternative once."""
    if isinstance(node, list):
        return [_plain(x) for x in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "title" and isinstance(value, str):
            continue
        if key == "properties":
            out[key] = {name: _plain(x) for name, x in value.items()}
            continue
        out["anyOf" if key == "oneOf" else key] = _plain(value)
    out.pop("discriminator", None)
    if "anyOf" in out:
        out["anyOf"] = [x for i, x in enumerate(out["anyOf"]) if x not in out["anyOf"][:i]]
    first = {key: out.pop(key) for key in KEYS if key in out}
    return first | out


def schema_text() -> str:
    """Return the schema file."""
    dumped: str = yaml.safe_dump(schema(), sort_keys=False, allow_unicode=True, width=100)
    return HEADER + dumped


def filled(text: str, tables: dict[str, str]) -> str:
    """Return a document with its tables made anew.

    Args:
        text: The document as it is; what stands between markers is replaced.
        tables: Every table by the name of its marker.

    Raises:
        KeyError: A marker names no table.
    """
    return MARK.sub(lambda found: f"{found[1]}{tables[found[2]]}{found[4]}", text)


def _tables() -> dict[str, str]:
    """Return every table by the name of its marker."""
    whole = schema()
    sections = {k: _resolve(x, whole) for k, x in whole["properties"].items() if "$ref" in x}
    single = {k: x for k, x in whole["properties"].items() if "$ref" not in x}
    for name, node in single.items():  # a section that a single value can stand for
        parts = [x for x in node.get("anyOf", ()) if "$ref" in x]
        sections |= {name: _resolve(parts[0], whole)} if parts else {}
    tables = {"top": _keys(single, (), whole)}
    for name, section in sections.items():
        tables[name] = _keys(section["properties"], section.get("required", ()), whole)
    training = sections["train"]["properties"]
    tables["targets"] = _keys(_resolve(training["targets"], whole)["properties"], (), whole)
    rows = []
    for name, defaults in METHOD_DEFAULTS.items():
        row = methods.BY_NAME[name]
        cells = [f"{defaults[x]:g}" for x in ("lr", "ema_decay", "clip_grad")]
        rows.append([f"`{name}`", row.trains, *cells, ", ".join(f"{x:g}" for x in row.rates)])
    tables["method_defaults"] = _table(
        ["method", "trains", "lr", "ema_decay", "clip_grad", "lr of a baseline, swept"], rows
    )
    tables["check_rows"] = _table(
        ["check", "number", "limit", "settings (default)"], [_check(row) for row in checks.ROWS]
    )
    tables["engine_rows"] = _table(
        ["engine", "file", "needs", "note"], [_engine(row) for row in engines.ROWS]
    )
    told = [x for x in findings.ROWS if x.name in findings.NAMES]
    tables["finding_rows"] = _table(
        ["name", "label", "finding", "what to do"],
        [[f"`{x.name}`", x.label, x.meaning, x.remedy] for x in told],
    )
    tables["made_rows"] = _table(
        ["kind", "what it makes"], [[f"`{x.name}`", x.what] for x in made.ROWS]
    )
    names = [
        [
            _code([row.name, *row.aliases]),
            (row.licence or foundations.NOT_KNOWN)
            + (f"; not for fine-tuning ({row.cls})" if foundations.why_not(row.cls) else ""),
            row.paper or foundations.NOT_KNOWN,
        ]
        for row in foundations.ROWS
    ]
    tables["foundation_rows"] = _table(["name", "licence", "paper"], names)
    return tables


def _mace_tables() -> dict[str, str]:
    """Return the tables of the options of mace_run_train."""
    head = ["option", "default", "here", "default", "relation", "note"]
    return {
        f"mace_{name}": _table(head, [_mace_option(row) for row in rows])
        for name, rows in mace_options.GROUPS.items()
    }


def _mace_option(row: mace_options.MaceOption) -> list[str]:
    """Return the row of an option of mace_run_train."""
    names, word = ", ".join(f"`{x}`" for x in (row.name, *row.aliases)), relation(row)
    default = list(row.default) if row.kind == "texts" else row.default
    theirs = "" if default is None else _value(default)
    if word == MISSING:
        return [names, theirs, "", "", word, row.note]
    ours = default_of(row)
    if leaf(row) in METHOD_DEFAULTS["lora"]:
        own = "by method"
    else:
        own = "" if ours is None else _value(ours)
    return [names, theirs, f"`{row.key}`", own, word, row.note]


def _keys(properties: dict[str, Any], required: Any, whole: dict[str, Any]) -> str:
    """Return the table of the keys of a section."""
    rows = []
    for name, node in properties.items():
        target = _resolve(node, whole)
        needed = name in required
        default = "required" if needed else _default(target if "default" not in node else node)
        by_method = name in METHOD_DEFAULTS["lora"] and node.get("type") == "number"
        default = "by method" if by_method else default
        meaning = str(node.get("description") or target.get("description", ""))
        rows.append([f"`{name}`", values_of(node, whole), default, meaning])
    return _table(["key", "values", "default", "meaning"], rows)


def _resolve(node: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference in the schema stands for."""
    if "$ref" not in node:
        return node
    found: dict[str, Any] = whole["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return found


def values_of(node: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return the values that a key takes, in words.

    Args:
        node: The schema of the key.
        whole: The schema of the config.
    """
    if "$ref" in node:
        return "mapping"
    if "anyOf" in node:
        parts = [values_of(x, whole) for x in node["anyOf"]]
        listed_too = any("," in x or x.startswith("list of") for x in parts)
        return ("; or " if listed_too else " or ").join(parts)
    if "enum" in node:
        return listed([_value(x) for x in node["enum"]])
    kind = node.get("type", "")
    if kind == "array":
        item = node["items"]
        if item.get("enum") == list(checks.NAMES):
            return "list of checks"
        if "$ref" in item:
            names = ", ".join(_resolve(item, whole)["properties"])
            return f"list of {{{names}}}"
        text = values_of(item, whole)
        plurals = {"whole number": "whole numbers", "number": "numbers", "text": "texts"}
        first, *rest = text.split(", ")
        return f"list of {', '.join([plurals.get(first, first), *rest])}"
    if kind == "object":
        inner = node.get("additionalProperties")
        return f"mapping to {values_of(inner, whole)}" if isinstance(inner, dict) else "mapping"
    words = {"integer": "whole number", "number": "number", "string": "text"}
    words |= {"boolean": "true or false", "null": "null"}
    bounds = [
        f"{word} {node[key]:.15g}"
        for key, word in NUMBERS.items()
        if key in node and abs(node[key]) < LARGE
    ]
    return ", ".join([words[kind], *bounds])


def _default(node: dict[str, Any]) -> str:
    """Return the default of a key as YAML writes it; empty for a section."""
    return _value(node["default"]) if "default" in node else ""


def _value(value: Any) -> str:
    """Return a value as YAML writes it in a line."""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, (list, dict)):
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
        return f"`{text}`" if "*" in text else text
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return str(value)


def _check(row: checks.Check) -> list[str]:
    """Return the row of a check."""
    number = f"{row.meaning} ({row.unit})" + (f". {row.note}" if row.note else "")
    settings = ", ".join(
        f"`{x.name}` ({x.default:g}{' ' if x.unit else ''}{x.unit})" for x in row.settings
    )
    return [f"`{row.name}`", number, row.limit_text(), settings]


def _engine(row: engines.Engine) -> list[str]:
    """Return the row of an engine."""
    return [f"`{row.name}`", f"`POINT{row.suffix}`", _code(row.modules), row.description]


def _code(names: Any) -> str:
    """Return names in code quotes."""
    return ", ".join(f"`{x}`" for x in names)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells).replace("|  |", "| |")
    return text.replace("|  |", "| |").replace("| --- ", "|---").replace("|--- |", "|---|") + "\n"


def files(root: Path) -> dict[Path, str]:
    """Return the content that each generated file should have.

    Args:
        root: The folder of the project.
    """
    made = {root / SCHEMA: schema_text()}
    for name, tables in ((README, _tables()), (FROM_MACE, _mace_tables())):
        path = root / name
        made[path] = filled(path.read_text(encoding="utf-8"), tables)
    return made


def main(argv: list[str] | None = None) -> int:
    """Write the generated files, or say which are out of date.

    Args:
        argv: The options; by default those of the command line.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m lora.plan.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    options = parser.parse_args(argv)
    code = 0
    for path, text in files(ROOT).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        name = path.relative_to(ROOT)
        if options.check:
            print(f"{name} is out of date; run python -m lora.plan.reference", file=sys.stderr)
            code = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return code


if __name__ == "__main__":
    sys.exit(main())
