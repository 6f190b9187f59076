"""ONNX Runtime's telemetry is off: batches, gradients and file names of a training are nobody else's business.

Importing this module, before onnxruntime is loaded, sets the variable that ONNX Runtime reads.
"""

import os

__all__ = ["VARIABLE"]

VARIABLE = "ORT_DISABLE_TELEMETRY"

os.environ.setdefault(VARIABLE, "1")
