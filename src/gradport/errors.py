"""Every error that gradport raises on purpose: one family, one sentence each.

A message names the thing, the place in the user's code where there is one, and what to do.
"""

from __future__ import annotations

__all__ = [
    "CompatibilityError",
    "Error",
    "ExportError",
    "OutputError",
    "ProgramError",
    "SpecError",
    "TargetError",
    "first_line",
]


class Error(Exception):
    """Base of all errors that gradport raises on purpose."""


class TargetError(Error):
    """The target cannot be imported, is not something gradport examines, or rejects its inputs."""


class SpecError(Error):
    """Something that the user wrote down (an input spec, a name, a shape, an option) does not hold together."""


class ExportError(Error):
    """The subject cannot be carried into ONNX; nothing was written."""


class ProgramError(Error):
    """A Program (or an ONNX file) cannot be read, or was run with inputs that do not fit it."""


class CompatibilityError(Error):
    """An installed library is not one that gradport works with."""


class OutputError(Error):
    """A result cannot be written where the user wants it."""


def first_line(error: Exception, most: int = 300) -> str:
    """The first line that a library's error says, as the end of a sentence; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:most].rstrip(".") + "."
