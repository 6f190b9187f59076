"""Tables of the docs that a benchmark writes: they stand between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import pathlib

__all__ = ["write_table"]


def write_table(path: pathlib.Path, name: str, table: str) -> None:
    """Puts a table in the place of the one that stands between its marks."""
    first, last = f"<!-- {name} -->", "<!-- end -->"
    before, _, rest = path.read_text("utf-8").partition(first)
    path.write_text(f"{before}{first}\n{table}\n{last}{rest.partition(last)[2]}", "utf-8")
