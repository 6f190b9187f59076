"""The forms in which a Subject can be exported, per opset; each file is proved."""

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
    """A cell per opset and form: exported and proved against eager, or the reason of the refusal.

    Args:
        subject: the Subject to export.
        opsets: the opsets to try.
        progress: called with the name of the next step.

    Returns:
        `opset`, `functions`, `outcome` ("ok" or "refused") and `message`.
    """
    cells = []
    for functions in ("keep", "inline", "opaque"):
        for opset in opsets:
            progress(f"opset {opset}, {functions}")
            cells.append({"opset": opset, "functions": functions, **_cell(subject, opset, functions)})
    return cells


def _cell(subject: Subject, opset: int, functions: str) -> dict[str, str]:
    try:
        export(subject, opset_version=opset, functions=functions)
    except Error as error:
        return {"outcome": "refused", "message": str(error)}
    return {"outcome": "ok", "message": ""}
