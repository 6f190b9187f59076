"""Repeats one case of a store."""

from __future__ import annotations

import os

from gradport.campaigning.cases import Case, Result
from gradport.campaigning.store import Row, Store
from gradport.errors import SpecError

__all__ = ["repeat_case"]


def repeat_case(store: str | os.PathLike[str], id: str, *, here: bool) -> tuple[Row, Result]:
    """Runs a case again with the options that it had.

    Args:
        store: the file.
        id: of the case, or its beginning.
        here: in this process, without limits.

    Returns:
        The row of the store, and the new result.

    Raises:
        SpecError: the store has no such case, or several.
    """
    with Store(store) as opened:
        found = [row for row in opened.rows() if row.id.startswith(id)]
        if len(found) != 1:
            raise SpecError(f"{os.fspath(store)} has {len(found) or 'no'} cases whose id begins with {id!r}.")
        (row,) = found
        pickled = opened.source(row.source)
    case = Case(**{name: row[name] for name in Case.__dataclass_fields__})
    if here:
        from gradport.campaigning.running import run_case
        from gradport.campaigning.sources import find

        return row, run_case(case, find(case.source, case.subject, case.task, pickled), row.options)
    from gradport.campaigning.isolated import run_isolated

    return row, run_isolated(case, row.options, pickled)
