"""Keeps the libraries' noise from the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]

_NOISY = ("torch", "onnxscript", "onnx_ir", "onnx")

_depth = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' loggers and warnings from the user."""
    global _depth
    if _depth:  # a change of a logger's level walks through all loggers, and this is opened for every call
        yield
        return
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
