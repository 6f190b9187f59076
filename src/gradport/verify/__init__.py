"""Is the ONNX right? A model beside eager torch, in every runtime that is at hand."""

from gradport.verify.sweep import Setting, settings, sweep
from gradport.verify.verify import verify

__all__ = ["Setting", "settings", "sweep", "verify"]
