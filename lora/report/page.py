"""Tables and paragraphs as small HTML pages, for the report and by themselves."""

import html

import pandas as pd

STYLE = """<style>
.sweep {font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 75em; margin: 1em}
.sweep h1 {font-size: 1.3em; margin: 0 0 .6em}
.sweep p {margin: .35em 0}
.sweep table {border-collapse: collapse; margin: .8em 0; font-variant-numeric: tabular-nums}
.sweep th, .sweep td {padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd;
  white-space: pre}
.sweep th:first-child {text-align: left}
.sweep tr.chosen {background: #fff3c4; font-weight: bold}
.sweep .note {color: #666}
</style>"""


def page(title: str, body: str) -> str:
    """A page that also stands as a part of another."""
    return (
        f"<meta charset=utf-8>{STYLE}<div class=sweep><h1>{html.escape(title)}</h1>{body}</div>\n"
    )


def rows_of(table: pd.DataFrame, chosen: str | None = None) -> str:
    """A table as HTML, its index first, one row marked."""
    head = "".join(f"<th>{html.escape(str(x))}</th>" for x in ["", *table.columns])
    rows = []
    for name, *values in table.itertuples():
        cells = "".join(f"<td>{html.escape(str(x))}</td>" for x in values)
        mark = " class=chosen" if name == chosen else ""
        rows.append(f"<tr{mark}><th>{html.escape(str(name))}</th>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
