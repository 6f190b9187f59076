"""The pytest entry point. It imports nothing heavy until a suite asks for it.

`pytest --gradport` collects module-level Subjects, and lists and dicts of them: each is checked, and exported and
verified.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

__all__ = ["SubjectItem", "pytest_addoption", "pytest_pycollect_makeitem"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--gradport`."""
    parser.getgroup("gradport").addoption(
        "--gradport", action="store_true", help="Collect module-level gradport Subjects: check, export and verify each."
    )


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[pytest.Item] | None:
    """Two items for each Subject that stands at the top of a test module."""
    if not isinstance(collector, pytest.Module) or not collector.config.getoption("gradport"):
        return None
    found = list(_subjects(name, obj))
    if not found:
        return None
    return [
        SubjectItem.from_parent(collector, name=f"{label}[{what}]", subject=subject, what=what)
        for label, subject in found
        for what in ("check", "export")
    ]


class SubjectItem(pytest.Item):
    """One Subject, to be checked, or to be exported and verified."""

    def __init__(self, *, subject: Any, what: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.subject = subject
        self.what = what

    def runtest(self) -> None:
        """Fails where something is not as it should be."""
        import gradport

        if self.what == "check":
            evidence = gradport.check(self.subject)
        else:
            evidence = gradport.verify(gradport.export(self.subject), self.subject)
        failed = [f.message for f in evidence.findings if f.outcome not in ("held", "skipped")]
        if failed:
            raise _NotOk("\n".join(failed))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A refusal or a failed Finding is a sentence; anything else a traceback."""
        from gradport.errors import Error

        if isinstance(excinfo.value, (_NotOk, Error)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where it stands and how it is called."""
        return self.path, None, self.name


class _NotOk(Exception):
    """Some Findings failed."""


def _subjects(name: str, obj: object) -> Iterator[tuple[str, Any]]:
    module = sys.modules.get("gradport.subject")
    if module is None:  # nobody has made one
        return
    if isinstance(obj, module.Subject):
        yield name, obj
    elif isinstance(obj, Mapping):
        yield from ((f"{name}[{key}]", value) for key, value in obj.items() if isinstance(value, module.Subject))
    elif isinstance(obj, (list, tuple)):
        yield from ((f"{name}[{i}]", value) for i, value in enumerate(obj) if isinstance(value, module.Subject))
