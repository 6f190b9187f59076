"""Which forms a Subject can be exported in, opset by opset: each file is proved, none is assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradport.errors import Error
from gradport.exporting.export import export
from gradport.lowering import OPSETS
from gradport.subject.subject import Subject

__all__ = ["forms"]


def forms(
    subject: Subject, opsets: Sequence[int] = OPSETS, *, progress: Callable[[str], None] = lambda what: None
) -> list[dict[str, Any]]:
    """A cell for each opset and form: exported and proved beside eager, or why not.

    Args:
        subject: what is exported.
        opsets: the opsets that are tried.
        progress: told what comes next.

    Returns:
        `opset`, `functions`, `outcome` ("ok" or "refused") and `message`.
    """
    found = []
    for functions in ("keep", "inline", "opaque"):
        for opset in opsets:
            progress(f"opset {opset}, {functions}")
            found.append({"opset": opset, "functions": functions, **_cell(subject, opset, functions)})
    return found


def _cell(subject: Subject, opset: int, functions: str) -> dict[str, str]:
    try:
        export(subject, opset_version=opset, functions=functions)
    except Error as error:
        return {"outcome": "refused", "message": str(error)}
    return {"outcome": "ok", "message": ""}
