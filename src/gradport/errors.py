"""All errors that gradport raises on purpose: one family of exceptions, with one sentence each.

A message has the object, the place in the user's code if there is one, and advice.
"""

from __future__ import annotations

import enum

__all__ = [
    "CompatibilityError",
    "Error",
    "ExportError",
    "OutputError",
    "ProgramError",
    "Refusal",
    "SpecError",
    "TargetError",
    "first_line",
]


class Error(Exception):
    """Base of all errors that gradport raises on purpose."""


class TargetError(Error):
    """The target cannot be imported, is not supported by gradport, or rejects its inputs."""


class SpecError(Error):
    """An argument of the user (an input spec, a name, a shape, an option) is invalid."""


class Refusal(enum.Enum):
    """A reason not to export a subject: what the subject does, and what the user can do about it.

    Names in braces are filled in when the error is raised. docs/refusals.md lists the members.
    """

    VALUE_DEPENDENT = (
        "decides on a tensor's value (a branch, a loop or a size taken from data)",
        "express it with torch.where, or with torch.cond or torch.while_loop",
    )
    SIZE_FROM_VALUES = (
        "makes a tensor whose size depends on values ({operator})",
        "use a mask (torch.where) or a fixed size instead",
    )
    NUMPY = ("leaves torch for numpy, where no trace can follow", "write that part in torch")
    NO_FAKE_KERNEL = ("calls {operator}, which has no fake kernel", "register one with torch.library.register_fake")
    NO_BODY = (
        "calls {operator}, an operator whose kernel no trace can follow (it comes from C++ or Library.impl)",
        "give a slow torch version with @gradport.reference({operator})",
    )
    SPARSE = ("makes a sparse tensor ({function}), and ONNX has only dense tensors", "use a dense tensor there")
    SCRIPTED = (
        "is compiled by TorchScript, and its code cannot be traced",
        "export the module as it was before torch.jit.script",
    )
    UNTRACED = ("cannot be traced ({reason})", "write that part in plain torch operators")
    RANDOM = (
        "draws random numbers ({operator})",
        "pass the random tensor in as an argument; a drawn number would be frozen into the file",
    )
    SIZE_FIXED = ("fixes the dynamic dimension {dimension!r} at {size}", "compute with x.shape[...] itself")
    SIZES_TIED = ("ties the dimensions {dimension!r} and {other!r} together", "give them one name")
    SIZE_BRANCH = (
        "branches on the dynamic dimension {dimension!r}: the traced branch needs {condition}; size {size} fails it",
        "leave that dimension static, or limit it with torch.export.Dim(name, min=, max=)",
    )
    NO_LOWERING = ("calls {operator}, which has no ONNX lowering", "write it with operators that ONNX has")
    NO_COMPLEX_LOWERING = (
        "calls {operator} on complex numbers",
        "it has no ONNX lowering, so write it with the real and imaginary parts (torch.view_as_real)",
    )
    LOWERING_FAILS = (
        "calls {operator}, whose ONNX lowering fails here ({reason})",
        "write it with operators that ONNX has",
    )
    SIZE_AS_NUMBER = (
        "calls {operator} with a number that depends on a dynamic size, which its lowering cannot take",
        "give it as a tensor (torch.full), or leave that dimension static",
    )
    NO_ATTRIBUTE = (
        "takes {argument}={value}, a {type}, which no attribute of an opaque node can hold",
        "export it with functions='keep' or 'inline'",
    )

    @property
    def what(self) -> str:
        """What the subject does."""
        return self.value[0]

    @property
    def advice(self) -> str:
        """What the user can do about it."""
        return self.value[1]

    def error(self, subject: str, place: object = None, *, also: str = "", **parts: object) -> ExportError:
        """The error for this refusal.

        Args:
            subject: the name of the subject.
            place: file and line of the user's code, if known.
            also: further advice.
            parts: the values for the braces.
        """
        at = f" at {place}" if place else ""
        sentence = f"{subject} {self.what.format(**parts)}{at}; {self.advice.format(**parts)}{also}."
        return ExportError(sentence, self)


class ExportError(Error):
    """The subject cannot be exported to ONNX; nothing was written.

    Attributes:
        refusal: the reason, if docs/refusals.md lists it; else None.
    """

    def __init__(self, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class ProgramError(Error):
    """A Program (or an ONNX file) cannot be read, or its inputs have the wrong dtype, shape or name."""


class CompatibilityError(Error):
    """An installed library is not compatible with gradport."""


class OutputError(Error):
    """A result cannot be written to the user's path."""


def first_line(error: Exception, most: int = 300) -> str:
    """The first line of a library's error, as the end of a sentence; its type if it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:most].rstrip(".") + "."
