"""The torch versions that gradport is tested with."""

from __future__ import annotations

import warnings

import torch

from gradport.errors import CompatibilityError

__all__ = ["NEWEST", "OLDEST", "SUPPORTED", "installed_minor", "require_supported"]

OLDEST = (2, 11)
NEWEST = (2, 15)
"""Minor versions; the same bounds as in pyproject.toml."""

SUPPORTED = "torch 2.11 to 2.15"


def installed_minor() -> tuple[int, int]:
    """Major and minor version of the installed torch."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return major, minor


def require_supported() -> None:
    """Warns if torch is newer than the tested versions.

    Raises:
        CompatibilityError: torch is older.
    """
    if installed_minor() < OLDEST:
        raise CompatibilityError(
            f"torch {torch.__version__} is too old: gradport supports {SUPPORTED}; "
            "install one of them, for example with pip install 'torch>=2.11,<2.16'."
        )
    if installed_minor() > NEWEST:
        warnings.warn(
            f"torch {torch.__version__} is newer than the versions that gradport is tested with ({SUPPORTED}); "
            "its self-test decides whether it works.",
            stacklevel=2,
        )
