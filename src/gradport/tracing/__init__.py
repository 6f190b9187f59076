"""PyTorch to FX: one trace of forward and backward; the calls of custom Functions are marked as Regions.

In: a Joint and its dynamic dimensions. Out: a Capture, or a refusal with the user's line. Never: ONNX.
"""

from gradport.tracing.capture import Capture, Constant, Placeholder, capture
from gradport.tracing.guards import SpecialSize
from gradport.tracing.regions import Region

__all__ = ["Capture", "Constant", "Placeholder", "Region", "SpecialSize", "capture"]
