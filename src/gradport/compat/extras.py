"""Optional libraries: each belongs to an extra; if it is missing, the error says how to install it."""

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
    TRAINING = "training"
    CAMPAIGN = "campaign"


@contextlib.contextmanager
def extra(name: Extra, purpose: str) -> Iterator[None]:
    """Context for imports of an extra's libraries.

    Args:
        name: the extra.
        purpose: the features that need it: a plural subject that begins the message.

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
