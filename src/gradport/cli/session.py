"""The run of a command: progress and tables on the right stream, errors as one sentence, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.status import Status

from gradport.errors import CompatibilityError, Error, ExportError, OutputError

__all__ = ["Session", "require_writable", "session"]

NOT_OK, USAGE, REFUSED, FAULT = 1, 2, 3, 70


class Session:
    """The output of a command. With `--json` stdout has one JSON object; progress and tables go to stderr."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.result: dict[str, Any] = {"command": command, "ok": True}
        self.as_json = as_json
        self._status: Status | None = None
        self._what = ""
        self.console = Console(stderr=as_json, soft_wrap=True, highlight=False)
        self.errors = Console(stderr=True, soft_wrap=True, highlight=False)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows a status during a step, and afterwards its time."""
        started = time.monotonic()
        with self.errors.status(f"{what} ...") as self._status:
            self._what = what
            yield
        if self.errors.is_terminal:
            self.errors.print(f"[dim]{what}: {time.monotonic() - started:.1f} s[/dim]")

    def progress(self, where: str) -> None:
        """Shows the progress of the step."""
        if self._status is not None:
            self._status.update(f"{self._what}: {where} ...")

    def show(self, renderable: RenderableType) -> None:
        """Prints a table or a line."""
        self.console.print(renderable)

    def say(self, text: str) -> None:
        """Prints plain text without markup."""
        self.console.print(text, markup=False)


@contextlib.contextmanager
def session(command: str, as_json: bool) -> Iterator[Session]:
    """Runs a command's body; turns every outcome into an exit code.

    Raises:
        typer.Exit: the result is not ok.
    """
    current = Session(command, as_json)
    try:
        yield current
    except Error as error:
        code = REFUSED if isinstance(error, (ExportError, CompatibilityError)) else USAGE
        _fail(current, error, str(error), code)
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as error:
        if os.environ.get("GRADPORT_DEBUG"):
            raise
        _fail(
            current,
            error,
            f"This is a fault of gradport ({type(error).__name__}: {error}); please report it. "
            "GRADPORT_DEBUG=1 shows the traceback.",
            FAULT,
        )
    if as_json:
        print(json.dumps(current.result, ensure_ascii=False))
    if not current.result["ok"]:
        raise typer.Exit(NOT_OK)


def _fail(current: Session, error: Exception, message: str, code: int) -> None:
    if current.as_json:
        print(json.dumps({**current.result, "ok": False, "error": {"type": type(error).__name__, "message": message}}))
    current.errors.print(f"error: {message}", markup=False, style="red")
    sys.stdout.flush()
    raise typer.Exit(code) from None


def require_writable(folder: Path) -> None:
    """Creates the folder and checks, before long work, that files can be written there.

    Raises:
        OutputError: files cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"The output folder {folder} cannot be written: {reason}; give another --out.") from error
