"""Say what an SQLite store of MLflow holds of runs, so that it can be compared later.

The file itself changes whenever MLflow's UI is open; what is logged in it does not.
"""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

# what `track` writes, by table; notes and views that people add in the UI are theirs
LOGGED = {
    "runs": "select run_uuid, name, status, lifecycle_stage from runs",
    "params": "select run_uuid, key, value from params",
    "metrics": "select run_uuid, key, value, timestamp, step from metrics",
    "latest": "select run_uuid, key, value, timestamp, step from latest_metrics",
    "tags": "select run_uuid, key, value from tags where key not like 'mlflow.%'",
    "models": "select name, version, source, run_id from model_versions",
}


def content_of(database: Path) -> str:
    """Return a digest of the runs, their numbers and the registered models of a store.

    Args:
        database: The SQLite file.

    Returns:
        16 hex digits; "" where the file cannot be read.
    """
    total = hashlib.sha256()
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            for table, query in LOGGED.items():
                rows = sorted(map(repr, store.execute(query)))
                total.update("\n".join([table, *rows]).encode())
    except (sqlite3.Error, UnicodeError):
        return ""
    return total.hexdigest()[:16]
