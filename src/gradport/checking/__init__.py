"""Is the Function right? What its backward is, and whether the author meant that. Needs no ONNX.

In: a Subject. Out: Evidence. Never: a change of the user's objects.
"""

from gradport.checking.check import check
from gradport.checking.conservative import conservative
from gradport.checking.equivalent import equivalent
from gradport.checking.rules import RULES

__all__ = ["RULES", "check", "conservative", "equivalent"]
