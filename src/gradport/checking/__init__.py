"""Is the Function right? What its backward is, and whether that was meant. Needs no ONNX.

In: a Subject. Out: Evidence. Never: a change of the user's objects.
"""

# importing the families fills the table of rules, in the order in which a report tells of them
# isort: off
from gradport.checking import backward
from gradport.checking import kinks
from gradport.checking import shapes
from gradport.checking import layouts
from gradport.checking import contract
from gradport.checking import aliasing
from gradport.checking import leaks
from gradport.checking import second_order
from gradport.checking import edges
from gradport.checking import dtypes
from gradport.checking import autocast
from gradport.checking import determinism
from gradport.checking import transforms
from gradport.checking import cost

# isort: on
from gradport.checking.check import check
from gradport.checking.conservative import conservative
from gradport.checking.equivalent import equivalent
from gradport.checking.rules import RULES

__all__ = [
    "RULES",
    "aliasing",
    "autocast",
    "backward",
    "check",
    "conservative",
    "contract",
    "cost",
    "determinism",
    "dtypes",
    "edges",
    "equivalent",
    "kinks",
    "layouts",
    "leaks",
    "second_order",
    "shapes",
    "transforms",
]
