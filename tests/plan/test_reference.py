"""The generated files are what the models say, and describe every key."""

from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from lora.plan import reference
from lora.plan.config import Config
from lora.plan.messages import dotted, every_key, model_at

ROOT = Path(__file__).parents[2]
QUICKSTART = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


def test_no_drift() -> None:
    assert reference.main(["--check"]) == 0


def test_drift_is_found(monkeypatch, capsys) -> None:
    monkeypatch.setattr(reference, "HEADER", "# another\n")
    assert reference.main(["--check"]) == 1
    assert "config.schema.yaml is out of date" in capsys.readouterr().err


def test_every_key_is_described() -> None:
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    for key in every_key():
        field = model_at(key[:-1])[key[-1]]
        section = bool(model_at(key))
        assert section or (field.description or "").rstrip().endswith("."), dotted(key)
        assert f"`{key[-1]}`" in text, dotted(key)


def test_schema_takes_what_the_models_take() -> None:
    schema = reference.schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(QUICKSTART)
    assert set(schema["properties"]) == set(Config.model_fields)
    for bad in (
        {"grid": {"rank": [4, 4]}},
        {"grid": {"rank": []}},
        {"grid": {"rank": [0]}},
        {"pack": {"size": "aut"}},
        {"e0s": {"method": "guess"}},
        {"train": {"epochs": 1}},
        {"checks": {"settings": {"nve": {"stepz": 1}}}},
    ):
        assert not validator.is_valid(QUICKSTART | bad), bad


def test_every_table_is_in_the_reference() -> None:
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    marks = {found[2] for found in reference.MARK.finditer(text)}
    assert marks == set(reference._tables())
