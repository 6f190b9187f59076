"""PyTorch to FX: one trace of forward and backward; the calls of custom Functions are marked as Regions.

Input: a Joint and its dynamic dimensions. Output: a Trace, or a refusal with the user's line. Never: ONNX.
"""

from gradport.tracing.guards import SpecialSize
from gradport.tracing.regions import Region
from gradport.tracing.tracer import Constant, Placeholder, Trace, trace_joint

__all__ = ["Constant", "Placeholder", "Region", "SpecialSize", "Trace", "trace_joint"]
