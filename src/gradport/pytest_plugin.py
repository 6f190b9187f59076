"""The pytest entry point. It imports nothing heavy until a suite asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--gradport`, which collects the Subjects of a test suite."""
    parser.getgroup("gradport").addoption(
        "--gradport", action="store_true", help="Collect module-level gradport Subjects and check each."
    )
