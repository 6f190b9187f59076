"""Is the backward of a Function correct, or the gradient that its author declared? Needs no ONNX.

Input: a Subject. Output: Evidence. Never changes the user's objects.
"""

from gradport.checking.check import check
from gradport.checking.conservative import conservative
from gradport.checking.equivalent import equivalent
from gradport.checking.rules import RULES

__all__ = ["RULES", "check", "conservative", "equivalent"]
