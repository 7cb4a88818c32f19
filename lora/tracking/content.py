"""Say what an SQLite store of MLflow holds of runs, so that it can be compared later.

The file itself changes whenever MLflow's UI is open; what is logged in it does not.
"""

import hashlib
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

# what `track` writes of a run, by table; what people add in the UI is theirs
LOGGED = {
    "runs": "select run_uuid, status from runs where run_uuid in ({})",
    "params": "select run_uuid, key, value from params where run_uuid in ({})",
    "metrics": "select run_uuid, key, value, timestamp, step from metrics where run_uuid in ({})",
    "latest": "select run_uuid, key, value, step from latest_metrics where run_uuid in ({})",
    "models": "select name, version, source, run_id from model_versions where run_id in ({})",
}
MANY = 500  # runs in a question


def content_of(database: Path, runs: Collection[str]) -> str:
    """Return a digest of what was logged of some runs, and of the models registered of them.

    Args:
        database: The SQLite file.
        runs: The ids of the runs.

    Returns:
        16 hex digits; "" where the file cannot be read.
    """
    total, every = hashlib.sha256(), sorted(runs)
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            for table, query in LOGGED.items():
                rows: list[str] = []
                for some in (every[i : i + MANY] for i in range(0, len(every), MANY)):
                    asked = query.format(", ".join("?" * len(some)))
                    rows += map(repr, store.execute(asked, some))
                total.update("\n".join([table, *sorted(rows)]).encode())
    except (sqlite3.Error, UnicodeError):
        return ""
    return total.hexdigest()[:16]
