"""What holds for all tests: one fork server, the order, the counts of campaigns, no litter.

Folders of the tests lie in memory where there is room: files are synced by the thousand.

Imported before any test module: e3nn imports only after our door to it was opened.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import lora.mace.door  # noqa: F401
from lora.mace.device import set_threads
from lora.plan import warm
from tests.support import counts, forkserver
from tests.support.trainings import files, inputs  # noqa: F401  (fixtures)

ROOT = Path(__file__).parents[1]
# hundreds of processes shall not compile the library anew, whatever the shell says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ[warm.SOCKET] = warm.OFF  # jobs are forks of a server of the tests' own
forkserver.remember_annotations()
set_threads(1)  # small tensors: threads only cost, and tests run side by side
MEMORY, ROOM = "/dev/shm", 4e9  # bytes; a run of all tests leaves a tenth of it
PROCESSES = 8e9  # bytes that the tests themselves take


def keep_in_memory() -> None:
    """Let folders of the tests, and of what they start, lie in memory where it has room."""
    given = os.environ.get("TMPDIR")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > ROOM
    runs = not (room and os.statvfs(MEMORY).f_flag & os.ST_NOEXEC)  # tests write commands
    if runs and not given and room and free > PROCESSES + ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = MEMORY


keep_in_memory()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that sets the counts of campaigns."""
    words = "of cases in campaigns, which are marked `long`"
    parser.addoption("--counts", choices=["short", "full"], default="short", help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Set the counts, and make the folder of the fork server, once for all processes."""
    os.environ[counts.VARIABLE] = config.getoption("--counts")
    if not hasattr(config, "workerinput"):
        forkserver.open_home()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the fork server."""
    if not hasattr(config, "workerinput"):
        forkserver.close_home()


# --- the order

# The longest files first, so that no process is left alone with one at the end.
LONGEST = [
    "test_slurm.py",
    "test_contract.py",
    "test_sweep.py",
    "test_processes.py",
    "test_submission.py",  # waits for the Slurm of the first: there is one at a time
    "test_parts.py",
    "test_race.py",
    "test_export.py",
    "test_browser.py",
    "test_damage.py",
    "test_seals.py",
    "test_tracking.py",
    "test_pages.py",
    "test_snakemake.py",
    "test_together.py",
    "test_race_cuts.py",
    "test_docs.py",  # waits for the Slurm of both
    "test_warm.py",
    "test_audit.py",
    "test_foundation.py",
    "test_replay.py",
    "test_change.py",
    "test_train.py",
    "test_kernels.py",
    "test_forkserver.py",
    "test_module.py",
    "test_figures.py",
    "test_strangers.py",
    "test_interrupt.py",
]


def only_long(item: pytest.Item) -> bool:
    """Whether a test is left to `make test-long`: long(only=True)."""
    return any(mark.kwargs.get("only") for mark in item.iter_markers("long"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs full counts, and sort files by how long they take.

    Tests of a file stay in their order.
    """
    if not counts.full():
        left = [item for item in items if only_long(item)]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not only_long(item)]
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Leave what is imported out of the garbage collection: an eighth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


# --- what tests leave behind


def untracked() -> set[str]:
    """Return the files of the repository that git does not know; none where there is no git."""
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {line[3:] for line in done.stdout.splitlines() if line.startswith("??")}


BEFORE = pytest.StashKey[set[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note which files are there before the first test."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = untracked()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves a file in the repository that git neither knows nor ignores."""
    if hasattr(session.config, "workerinput"):
        return
    left = sorted(untracked() - session.config.stash[BEFORE])
    if left:
        print(f"\nthe tests left files in the repository: {', '.join(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# --- what the faults did: a line each at the end, also when tests run side by side

FAULTS = "fault"


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """told(fault, injected, detected, recovered): a line of the table at the end."""
    return lambda *cells: record_property(FAULTS, [str(cell) for cell in cells])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each fault."""
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
