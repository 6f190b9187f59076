"""An ONNX file as a torch module.

Input: an ONNX file or model. Output: a module whose forward computes the same. Operators are rows of a table, one
function each; shapes that a graph computes are numbers, symbolic ones in a trace. Never runs ONNX Runtime, and never
changes the model.
"""

from gradport.importing.files import from_onnx
from gradport.importing.module import ImportedModule

__all__ = ["ImportedModule", "from_onnx"]
