"""What every row of the checks promises; a new row is tested by being a row."""

import inspect
import math
from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk

from lora.catalogue.checks import ROWS, TIERS, Check
from lora.catalogue.named import resolve
from lora.checks.run import measure, run_checks
from lora.errors import UserError
from tests.support.morse import Morse, sample

# samples on which a check may have nothing to work on
POOR = {
    "molecules": {"crystals": [], "holdout": []},
    "crystals": {"structures": [bulk("Cu", "fcc", a=2.0)], "numbers": [29], "holdout": []},
    "an atom": {"structures": [Atoms("H")], "numbers": [1], "holdout": [], "crystals": []},
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
class TestCheckContract:
    """A check: a function of a potential, a sample and its settings; a number, lower is better."""

    def test_the_function_takes_the_settings_of_the_row(self, row: Check) -> None:
        """Defaults stand once, in the row: an argument of the function has none."""
        potential, of, *rest = inspect.signature(resolve(row.function)).parameters.values()
        assert (potential.name, of.name) == ("potential", "sample")
        assert [x.name for x in rest] == [setting.name for setting in row.settings]
        for argument in rest:
            assert argument.default is inspect.Parameter.empty, f"{argument.name}: in the row only"
            assert argument.annotation in (int, float)

    def test_the_row_is_complete(self, row: Check) -> None:
        assert row.meaning and row.unit and row.tier in TIERS
        assert row.compare in ("absolute", "ratio", "excess")
        for setting in row.settings:
            assert setting.bounds.admits(setting.default) and setting.description.endswith(".")
            kind = inspect.signature(resolve(row.function)).parameters[setting.name].annotation
            assert (kind is int) == setting.whole

    def test_a_sound_potential_is_within_the_limit(self, row: Check) -> None:
        found = run_checks(Morse(), sample(), [row.name])
        assert found["not_checked"] == {}
        one = found["checks"][row.name]
        assert isinstance(one["value"], float) and math.isfinite(one["value"])
        assert (one["unit"], one["limit"], one["meaning"]) == (row.unit, row.limit, row.meaning)
        # a foundation model has itself to be compared with
        shown = {"absolute": one["value"], "ratio": 1.0, "excess": 0.0}[row.compare]
        assert shown <= row.limit

    @pytest.mark.parametrize("name", POOR)
    def test_it_measures_or_says_why_it_cannot(self, row: Check, name: str) -> None:
        found = run_checks(Morse(), replace(sample(), **POOR[name]), [row.name])
        if row.name in found["checks"]:
            assert isinstance(found["checks"][row.name]["value"], float)
        else:
            assert len(found["not_checked"][row.name]) > 10

    def test_two_runs_are_equal(self, row: Check) -> None:
        first, again = (run_checks(Morse(), sample(), [row.name])["checks"] for _ in range(2))
        assert first[row.name]["value"] == again[row.name]["value"]

    def test_a_setting_that_it_does_not_take_is_refused(self, row: Check) -> None:
        with pytest.raises(
            UserError, match=rf"checks\.settings\.{row.name}: there is no setting x"
        ):
            measure(row, Morse(), sample(), x=1)


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
