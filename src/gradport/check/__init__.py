"""Is the Function right? What its backward is, and whether that was meant. Needs no ONNX."""

from gradport.check.check import check
from gradport.check.rules import RULES

__all__ = ["RULES", "check"]
