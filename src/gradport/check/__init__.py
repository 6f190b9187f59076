"""Is the Function right? What its backward is, and whether that was meant. Needs no ONNX."""

from gradport.check import backward  # importing the families fills the table of rules
from gradport.check.check import check
from gradport.check.rules import RULES

__all__ = ["RULES", "backward", "check"]
