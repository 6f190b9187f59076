"""From ONNX Runtime into torch: a Program with gradients comes in, a differentiable part of a torch model comes out.

The Program is cut at its cotangents into a forward and a backward model, so that nothing runs twice. Nothing here changes
the Program.
"""

from gradport.bridging.function import as_function

from gradport.bridging.module import as_module

__all__ = ["as_function", "as_module"]
