"""gradport exports a PyTorch autograd Function, model or training step - its forward and the backward its author wrote
- to plain ONNX that the stock ONNX Runtime runs, and shows evidence that the gradient is right.

Every name below is imported on first use: `import gradport` loads neither torch nor onnx.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it when it is loaded

if TYPE_CHECKING:
    from gradport.bridging import as_function as as_function
    from gradport.bridging import as_module as as_module
    from gradport.bridging import implicit as implicit
    from gradport.campaigning.campaign import Campaign as Campaign
    from gradport.campaigning.campaign import campaign as campaign
    from gradport.campaigning.sweep import sweep as sweep
    from gradport.campaigning.tasks import Task as Task
    from gradport.checking import check as check
    from gradport.checking import conservative as conservative
    from gradport.checking import equivalent as equivalent
    from gradport.eager.references import reference as reference
    from gradport.errors import Error as Error
    from gradport.errors import ExportError as ExportError
    from gradport.errors import OutputError as OutputError
    from gradport.errors import ProgramError as ProgramError
    from gradport.errors import SpecError as SpecError
    from gradport.errors import TargetError as TargetError
    from gradport.evidence import Evidence as Evidence
    from gradport.evidence import Finding as Finding
    from gradport.evidence.changes import Change as Change
    from gradport.evidence.changes import compare as compare
    from gradport.exporting.export import export as export
    from gradport.exporting.export_step import export_step as export_step
    from gradport.exporting.export_step import write_back as write_back
    from gradport.importing import from_onnx as from_onnx
    from gradport.model.loading import load as load
    from gradport.model.program import Program as Program
    from gradport.subject.spec import tensor as tensor
    from gradport.subject.subject import Subject as Subject
    from gradport.training import Training as Training
    from gradport.training import export_training as export_training
    from gradport.training import load_training as load_training
    from gradport.verifying import verify as verify

__version__ = "0.2.0"

_HOMES = {
    "Campaign": "gradport.campaigning.campaign",
    "Change": "gradport.evidence.changes",
    "compare": "gradport.evidence.changes",
    "Error": "gradport.errors",
    "Evidence": "gradport.evidence",
    "ExportError": "gradport.errors",
    "Finding": "gradport.evidence",
    "OutputError": "gradport.errors",
    "Program": "gradport.model.program",
    "ProgramError": "gradport.errors",
    "SpecError": "gradport.errors",
    "Subject": "gradport.subject.subject",
    "TargetError": "gradport.errors",
    "Task": "gradport.campaigning.tasks",
    "Training": "gradport.training",
    "campaign": "gradport.campaigning.campaign",
    "check": "gradport.checking",
    "conservative": "gradport.checking",
    "equivalent": "gradport.checking",
    "export": "gradport.exporting.export",
    "export_step": "gradport.exporting.export_step",
    "export_training": "gradport.training",
    "as_function": "gradport.bridging",
    "as_module": "gradport.bridging",
    "from_onnx": "gradport.importing",
    "implicit": "gradport.bridging",
    "load": "gradport.model.loading",
    "load_training": "gradport.training",
    "reference": "gradport.eager.references",
    "sweep": "gradport.campaigning.sweep",
    "tensor": "gradport.subject.spec",
    "verify": "gradport.verifying",
    "write_back": "gradport.exporting.export_step",
}

__all__ = ["__version__", *sorted(_HOMES)]


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
