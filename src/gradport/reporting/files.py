"""Writes files of results."""

from __future__ import annotations

import os
import tempfile

from gradport.errors import OutputError

__all__ = ["write_text"]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        descriptor, scratch = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".gradport-")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(scratch, 0o666 & ~_umask())  # mkstemp's file is readable only by its owner
        os.replace(scratch, path)
    except OSError as error:
        raise OutputError(f"{os.fspath(path)} cannot be written: {error.strerror or error}.") from error


def _umask() -> int:
    """The umask of the process; it can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
