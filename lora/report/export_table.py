"""What the engines gave, as a table in the terminal."""

from typing import Any

from rich.table import Table

KEYS = {"energy": "meV/atom", "forces": "eV/Å", "stress": "eV/Å³", "drift": "meV/atom/ps"}


def table_of(rows: list[dict[str, Any]], point: str, dtype: str) -> Table:
    """Differences of each engine to the merged model in ASE, and the drift of its run."""
    table = Table(title=f"{point} in {dtype}: largest difference to the merged model in ASE")
    table.add_column("engine")
    table.add_column("file")
    for key, unit in KEYS.items():
        table.add_column(f"{key}\n{unit}", justify="right")
    table.add_column("verdict")
    for row in rows:
        shown = [_number(row.get(key), 1e3 if key == "energy" else 1) for key in KEYS]
        colour = {"passed": "green", "failed": "red"}.get(row["verdict"], "yellow")
        verdict = f"[{colour}]{row['verdict']}[/]" + (f": {row['why']}" if row["why"] else "")
        table.add_row(row["engine"], row["file"], *shown, verdict)
    return table


def _number(value: float | None, factor: float) -> str:
    return "-" if value is None else f"{factor * value:.1e}"
