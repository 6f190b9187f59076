"""From ONNX to torch: a file comes in, a module whose forward computes the same comes out.

Operators are rows of a table, one function each; shapes that a graph computes are numbers, symbolic ones in a trace.
Nothing here runs ONNX Runtime, writes a file, or changes the given model.
"""

from gradport.importing.files import from_onnx
from gradport.importing.module import ImportedModule

__all__ = ["ImportedModule", "from_onnx"]
