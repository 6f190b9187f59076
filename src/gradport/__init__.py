"""gradport carries a PyTorch autograd function - its forward and the backward its author wrote - into plain ONNX that
the stock ONNX Runtime runs, and shows evidence that the gradient is right.

Every name below is imported on first use: `import gradport` loads neither torch nor onnx.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradport.changes import Change as Change
    from gradport.changes import compare as compare
    from gradport.check import check as check
    from gradport.check import conservative as conservative
    from gradport.check import equivalent as equivalent
    from gradport.errors import Error as Error
    from gradport.errors import ExportError as ExportError
    from gradport.errors import OutputError as OutputError
    from gradport.errors import ProgramError as ProgramError
    from gradport.errors import SpecError as SpecError
    from gradport.errors import TargetError as TargetError
    from gradport.evidence import Evidence as Evidence
    from gradport.evidence import Finding as Finding
    from gradport.export import export as export
    from gradport.export_step import export_step as export_step
    from gradport.export_step import write_back as write_back
    from gradport.loading import load as load
    from gradport.program import Program as Program
    from gradport.references import reference as reference
    from gradport.spec import tensor as tensor
    from gradport.subject import Subject as Subject
    from gradport.verify.sweep import sweep as sweep
    from gradport.verify.verify import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "Change": "gradport.changes",
    "compare": "gradport.changes",
    "Error": "gradport.errors",
    "Evidence": "gradport.evidence",
    "ExportError": "gradport.errors",
    "Finding": "gradport.evidence",
    "OutputError": "gradport.errors",
    "Program": "gradport.program",
    "ProgramError": "gradport.errors",
    "SpecError": "gradport.errors",
    "Subject": "gradport.subject",
    "TargetError": "gradport.errors",
    "check": "gradport.check",
    "conservative": "gradport.check",
    "equivalent": "gradport.check",
    "export": "gradport.export",
    "export_step": "gradport.export_step",
    "load": "gradport.loading",
    "reference": "gradport.references",
    "sweep": "gradport.verify",
    "tensor": "gradport.spec",
    "verify": "gradport.verify",
    "write_back": "gradport.export_step",
}

__all__ = ["__version__", *sorted(_HOMES)]


class _Package(types.ModuleType):
    """Some names are a function here and a room below; importing the room must not hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "testing":  # a module, and the only one that needs pytest
        return importlib.import_module("gradport.testing")
    if name not in _HOMES:
        raise AttributeError(f"module 'gradport' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
