"""Small HTML pages of tables and paragraphs, which stand by themselves and inside the report."""

from collections.abc import Mapping, Sequence

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

STYLE = """<style>
.sweep {font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 75em; margin: 1em}
.sweep h1 {font-size: 1.3em; margin: 0 0 .6em}
.sweep h2 {font-size: 1.1em; margin: 1.6em 0 .3em}
.sweep p {margin: .35em 0}
.sweep table {border-collapse: collapse; margin: .8em 0; font-variant-numeric: tabular-nums}
.sweep th, .sweep td {padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd;
  white-space: pre}
.sweep th:first-child {text-align: left}
.sweep tr.chosen {background: #fff3c4; font-weight: bold}
.sweep .note {color: #666}
.sweep pre {background: #f5f5f5; color: #222; padding: .5em .8em; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .3em 0}
.sweep figure {display: inline-block; margin: 1em 1.5em 0 0; max-width: 46em; vertical-align: top}
.sweep figure img {max-width: 100%}
.sweep figcaption {max-width: 46em}
.sweep .verdict {border: 2px solid #0072B2; border-radius: 6px; padding: .4em 1em; max-width: 60em}
.sweep .verdict dl {display: grid; grid-template-columns: 8em 1fr; margin: .3em 0}
.sweep .verdict dt {font-weight: bold}
.sweep .verdict dd {margin: 0 0 .3em}
.sweep .verdict dd p {margin: 0 0 .15em}
</style>"""
TEMPLATES = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
PAGE = TEMPLATES.from_string(
    "<!doctype html><html lang=en><meta charset=utf-8><title>{{ title }}</title>{{ style }}"
    "<main class=sweep><h1>{{ title }}</h1>{% for part in parts %}{{ part }}{% endfor %}</main>\n"
)
TABLE = TEMPLATES.from_string("""\
<table><thead><tr>{% for name in head %}<th>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for name, cells in rows %}
<tr{% if name == chosen %} class=chosen{% endif %}><th>{{ name }}</th>
{%- for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table>
""")
PARAGRAPH = TEMPLATES.from_string(
    "<p{% if note %} class=note{% endif %}>{% if lead %}<b>{{ lead }}</b> {% endif %}{{ text }}</p>"
)
HEADING = TEMPLATES.from_string("<h2>{{ text }}</h2>")
CODE = TEMPLATES.from_string("<p>{{ title }}</p><pre>{{ code }}</pre>")


VERDICT = TEMPLATES.from_string("""\
<div class=verdict><dl>
{% for name, sentences in rows.items() %}
<dt>{{ name }}</dt><dd>{% for one in sentences %}<p>{{ one }}</p>{% endfor %}</dd>
{% if loop.first %}<dt>Errors</dt><dd>{{ table }}</dd>{% endif %}
{% endfor %}
</dl>{{ code }}</div>
""")


def verdict(rows: Mapping[str, Sequence[str]], table: Markup, code: Markup) -> Markup:
    """Return the box of the first page: what was found, in a few words.

    Args:
        rows: {what a reader asks: sentences}.
        table: The errors, which come after the first row.
        code: How to load the model.
    """
    return Markup(VERDICT.render(rows=rows, table=table, code=code))


def page(title: str, *parts: Markup) -> str:
    """Return a page.

    Args:
        title: Its heading.
        parts: What `paragraph`, `rows_of` and `listing` return.
    """
    return PAGE.render(style=Markup(STYLE), title=title, parts=parts)


def paragraph(text: str, lead: str = "", note: bool = False) -> Markup:
    """Return a paragraph.

    Args:
        text: Its text.
        lead: A word in bold before it.
        note: Whether it is grey.
    """
    return Markup(PARAGRAPH.render(text=text, lead=lead, note=note))


def heading(text: str) -> Markup:
    """Return the heading of a part of a page.

    Args:
        text: What is said.
    """
    return Markup(HEADING.render(text=text))


def rows_of(table: pd.DataFrame, chosen: str | None = None) -> Markup:
    """Return a table, its index first.

    Args:
        table: The table; every cell is shown as `str` gives it.
        chosen: The row that is marked.
    """
    rows = [(name, cells) for name, *cells in table.itertuples()]
    return Markup(TABLE.render(head=["", *table.columns], rows=rows, chosen=chosen))


def listing(title: str, code: str) -> Markup:
    """Return lines of code under a title."""
    return Markup(CODE.render(title=title, code=code))
