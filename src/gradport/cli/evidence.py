"""Reads Evidence files for commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradport.errors import SpecError

if TYPE_CHECKING:
    from gradport.evidence.evidence import Evidence

__all__ = ["read_evidence"]


def read_evidence(path: Path) -> Evidence:
    """Reads the Evidence of a JSON file.

    Raises:
        SpecError: the file cannot be read, or is not Evidence.
    """
    from gradport.evidence.evidence import Evidence

    try:
        return Evidence.from_json(path.read_text("utf-8"))
    except (OSError, ValueError, SpecError) as error:
        raise SpecError(f"{path} cannot be read as Evidence: {error}") from error
