"""Imported before any test module: e3nn imports only after our door to it was opened."""

import lora.mace.door  # noqa: F401
from lora.mace.device import set_threads
from tests.support.trainings import files, inputs  # noqa: F401  (fixtures)

set_threads(1)  # small tensors: threads only cost, and tests run side by side


LONGEST = ["test_slurm.py", "test_sweep.py", "test_browser.py", "test_processes.py"]


def pytest_collection_modifyitems(items: list) -> None:
    """The longest files first, so that no process is left alone with one at the end."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


# --- what the faults did: a line each at the end, also when tests run side by side

import pytest  # noqa: E402

FAULTS = "fault"


@pytest.fixture
def told(record_property):
    """told(fault, injected, detected, recovered): a line of the table at the end."""
    return lambda *cells: record_property(FAULTS, [str(cell) for cell in cells])


def pytest_terminal_summary(terminalreporter) -> None:
    reports = terminalreporter.stats.get("passed", [])
    rows = [
        v for report in reports for k, v in getattr(report, "user_properties", []) if k == FAULTS
    ]
    if rows:
        terminalreporter.section("faults")
        head = ["fault", "injected", "detected", "after the next run"]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        for row in [head, *sorted(rows)]:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line(line.rstrip())
