"""The options of mace_run_train: the table is its parser's, and says what is true of our config."""

import argparse
from typing import Any

import pytest

from lora.catalogue.mace_options import BY_NAME, GROUPS, ROWS, MaceOption
from lora.mace.door import upstream
from lora.plan import reference
from lora.plan.from_mace import (
    MISSING,
    NotHereError,
    converted,
    default_of,
    leaf,
    parsed,
    relation,
)
from lora.plan.messages import dotted, every_key, model_at

TYPES = {"int": "integer", "float": "number", "bool": "boolean", "flag": "boolean"}
each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def actions() -> dict[str, argparse.Action]:
    """Upstream's options by their first name."""
    found = upstream("mace.tools").build_default_arg_parser()._actions
    return {x.option_strings[0][2:]: x for x in found if "-h" not in x.option_strings}


def kind_of(action: argparse.Action) -> str:
    """The kind that a row should have."""
    if action.nargs == 0:
        return "flag"
    if action.nargs == "+":
        return "texts"
    kinds = {"int": "int", "float": "float", "str2bool": "bool", "check_float_or_none": "float"}
    return kinds.get(getattr(action.type, "__name__", ""), "text")


def test_the_table_has_every_option_once_and_no_other() -> None:
    assert sorted(x.name for x in ROWS) == sorted(actions())
    assert len(BY_NAME) == len(ROWS) + sum(len(x.aliases) for x in ROWS)


@each
def test_a_row_is_as_the_parser_says(row: MaceOption) -> None:
    action = actions()[row.name]
    default: Any = action.default
    if isinstance(default, str) and callable(action.type):
        default = action.type(default)  # as argparse does
    assert row.default == (tuple(default) if isinstance(default, list) else default)
    assert row.kind == kind_of(action)
    assert row.aliases == tuple(x[2:] for x in action.option_strings[1:])


@each
def test_what_stands_for_an_option_exists(row: MaceOption) -> None:
    keys = {dotted(key) for key in every_key()}
    if row.key:
        assert row.key in keys
    else:
        assert row.note.endswith("."), "what to do instead"
        assert row.place == "top" or model_at((row.place,))


@each
def test_the_same_name_means_the_same_type(row: MaceOption) -> None:
    """An option without a key here must not have the name of one, unless the row says so."""
    owners = [dotted(key) for key in every_key() if key[-1] == row.name]
    if relation(row) == MISSING:
        assert not owners or any(f"`{x}`" in row.note for x in owners), owners
    elif leaf(row) == row.name and row.kind in TYPES:
        whole = reference.schema()
        section = reference._resolve(whole["properties"][row.key.split(".")[0]], whole)
        node = section["properties"][row.name]
        found = node.get("items", node).get("type")
        assert found == TYPES[row.kind]
    if relation(row) == "same":
        assert default_of(row) == (None if row.default is None else converted(row, row.default))


def test_relations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {row.name: relation(row) for row in ROWS}
    assert found["energy_weight"] == "same" and found["weight_decay"] == "another default"
    assert found["lora_rank"] == "another name" and found["swa"] == "missing"
    assert found["config_type_weights"] == "same"  # as text there, as a mapping here
    assert set(found.values()) == {"same", "another default", "another name", "missing"}


def test_every_table_is_in_the_document() -> None:
    text = (reference.ROOT / reference.FROM_MACE).read_text(encoding="utf-8")
    marks = {found[2] for found in reference.MARK.finditer(text)}
    assert marks == {f"mace_{name}" for name in GROUPS}
    for row in ROWS:
        assert f"| `{row.name}`" in text


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("E0s", "{1: -13.6, 8: -2041.0}", {"H": -13.6, "O": -2041.0}),
        ("E0s", "Average", "average"),
        ("clip_grad", "None", 0.0),
        ("freeze", "3", 1),
        ("seed", "7", [7]),
        ("lora_alpha", "8.0", [8]),
        ("config_type_weights", '{"Default": 1.0, "hot": 2}', {"hot": 2.0}),
        ("pseudolabel_replay", "yes", "foundation"),
        ("lr", "1e-3", 0.001),
        ("train_file", "a.h5", "a.h5"),
    ],
)
def test_values(name: str, text: str, value: Any) -> None:
    row = BY_NAME[name]
    assert converted(row, parsed(row, text, name)) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("loss", "ef"),
        ("freeze", "7"),
        ("freeze", "-1"),
        ("device", "mps"),
        ("E0s", "none.json"),
        ("E0s", "{'a': {1: 2}}"),
        ("train_file", "[a.xyz, b.xyz]"),
        ("pt_train_file", "mp"),
    ],
)
def test_values_that_the_config_does_not_have(name: str, text: str) -> None:
    row = BY_NAME[name]
    with pytest.raises(NotHereError):
        converted(row, parsed(row, text, name))
