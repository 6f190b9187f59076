"""A Program as a differentiable part of a torch model that runs in ONNX Runtime.

Input: a Program with gradients; for `implicit` a solver and its equation. Output: a torch function or module. The
Program is cut at its cotangents into a forward and a backward model, so that nothing runs twice. Never changes a
Program, never writes a file.
"""

from gradport.bridging.function import as_function
from gradport.bridging.implicit import implicit, iterate
from gradport.bridging.module import as_module
from gradport.eager.control_flow import vjp_of

__all__ = ["as_function", "as_module", "implicit", "iterate", "vjp_of"]
