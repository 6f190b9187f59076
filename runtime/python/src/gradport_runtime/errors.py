"""One family of exceptions. Each has a code that is the same in every language."""

from __future__ import annotations

import enum

__all__ = ["BundleError", "CheckpointError", "Code", "Error", "InputError", "TrainingError"]


class Code(enum.StrEnum):
    """Why something was refused; the conformance tests name these."""

    FILE_MISSING = "file-missing"
    FILE_DAMAGED = "file-damaged"
    PATH_OUTSIDE = "path-outside"
    MANIFEST_INVALID = "manifest-invalid"
    FORMAT_NEWER = "format-newer"
    SHAPE_INVALID = "shape-invalid"
    STATE_DIFFERS = "state-differs"
    OTHER_BUNDLE = "other-bundle"
    INPUT_MISSING = "input-missing"
    INPUT_UNKNOWN = "input-unknown"
    INPUT_DTYPE = "input-dtype"
    INPUT_SHAPE = "input-shape"
    MODEL_MISSING = "model-missing"
    NOT_FINITE = "not-finite"
    RUNTIME = "runtime"


class Error(Exception):
    """The base class.

    Attributes:
        code: the reason, for programs.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class BundleError(Error):
    """A bundle that cannot be read."""


class CheckpointError(Error):
    """A checkpoint that cannot be read, or belongs to another bundle."""


class InputError(Error):
    """An argument with an unknown name, another dtype or another shape."""


class TrainingError(Error):
    """A step that cannot be taken: ONNX Runtime fails, or the loss is not finite."""
