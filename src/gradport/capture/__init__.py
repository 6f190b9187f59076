"""PyTorch to FX: one trace of forward and backward, with every custom Function's calls marked as Regions."""

from gradport.capture.capture import Capture, Constant, Placeholder, capture
from gradport.capture.guards import SpecialSize
from gradport.capture.regions import Region

__all__ = ["Capture", "Constant", "Placeholder", "Region", "SpecialSize", "capture"]
