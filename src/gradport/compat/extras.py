"""Libraries that only some people need: each is part of an extra, and its absence is told with the way to mend it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from gradport.errors import CompatibilityError

__all__ = ["Extra", "extra"]


class Extra(enum.StrEnum):
    """The optional dependencies of pyproject.toml."""

    CLI = "cli"
    PAGES = "pages"


@contextlib.contextmanager
def extra(name: Extra, purpose: str) -> Iterator[None]:
    """Imports inside belong to an extra.

    Args:
        name: the extra.
        purpose: what needs it, as the beginning of a sentence in the plural.

    Raises:
        CompatibilityError: a library of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise CompatibilityError(
            f"{purpose} need {error.name}, which is not installed: install {error.name}, or gradport with its extra "
            f"{str(name)!r} (gradport[{name}])."
        ) from error
