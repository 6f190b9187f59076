"""One HTML page for many Evidences: a summary, a row for each Subject, and what each measured. It needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

__all__ = ["page"]

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td { overflow-wrap: anywhere; }
.failed, .error { color: #c22; font-weight: 600; }
.undecided { color: #a60; }
</style>
<h1>{{ title }}</h1>
<p>{{ held }} of {{ rows|length }} hold.</p>
{% for row in rows %}
<details {{ '' if row.ok else 'open' }}>
<summary><span class="{{ 'held' if row.ok else 'failed' }}">{{ 'ok' if row.ok else 'NOT OK' }}</span>
 {{ row.subject }} <small>{{ row.test }}</small></summary>
<table>
<tr><th scope="col">outcome<th scope="col">finding<th scope="col">what it says</tr>
{% for finding in row.findings %}
<tr><td class="{{ finding.outcome }}">{{ finding.outcome }}<td>{{ finding.key }}<td>{{ finding.message }}</tr>
{% endfor %}
</table>
</details>
{% endfor %}
</html>
"""
)


def page(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        title: of it.
        rows: Evidences as `Evidence.to_dict` gives them, each with the `test` that it comes from.
    """
    return _PAGE.render(title=title, rows=rows, held=sum(bool(row["ok"]) for row in rows))
