"""Silences log messages and warnings of torch, onnx and onnxscript."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]

_NOISY = ("torch", "torch.__trace", "onnxscript", "onnx_ir", "onnx")

_depth = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the libraries' loggers, and all warnings, while open."""
    global _depth
    if _depth:  # setting a logger's level walks all loggers, and every call opens this context
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
