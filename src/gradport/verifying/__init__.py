"""Is the ONNX right? A model beside eager torch, in every runtime that is at hand.

In: a model, gradport's or anybody's, and a Subject. Out: Evidence. Never: a change of the model.
"""

from gradport.verifying.sweep import Setting, settings, sweep
from gradport.verifying.verify import verify

__all__ = ["Setting", "settings", "sweep", "verify"]
