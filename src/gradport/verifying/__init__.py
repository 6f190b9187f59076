"""Is the ONNX model correct? Compares a model with eager torch in every installed runtime.

Input: a model of gradport or another exporter, and a Subject. Output: Evidence. Never changes the model.
"""

from gradport.verifying.verify import verify

__all__ = ["verify"]
