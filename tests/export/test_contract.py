"""What every row of the engines keeps; that each agrees with MACE is in test_export."""

import tomllib
from pathlib import Path
from string import Formatter

import pytest

from lora.catalogue.engines import ROWS, Engine
from lora.catalogue.named import resolve
from lora.export.engines import base
from lora.export.verify import driver_of, missing

FIELDS = {"path": "m.model", "dtype": "float64", "precision": "double", "elements": "H C"}
EXTRAS = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
class TestEngineContract:
    def test_it_names_code_that_is_there(self, row: Engine) -> None:
        driver = driver_of(row.name)
        assert issubclass(driver, base.Engine) and driver is not base.Engine and driver.__doc__
        assert callable(resolve(row.writer))

    def test_its_snippet_is_ready_to_paste(self, row: Engine) -> None:
        used = {name for _, name, _, _ in Formatter().parse(row.snippet) if name}
        assert "path" in used and used <= set(FIELDS)
        assert "{" not in row.snippet.format(**FIELDS)

    def test_what_installs_it_is_known(self, row: Engine) -> None:
        assert not row.extra or row.extra in EXTRAS
        assert row.extra or not row.modules
        assert set(missing(row)) <= set(row.modules)
        assert row.suffix and row.description.endswith(".")


def test_names_are_names_once() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    written = {(row.suffix, row.writer) for row in ROWS}  # one file, one way to write it
    assert len({suffix for suffix, _ in written}) == len(written)
