"""Is the Function right? What its backward is, and whether that was meant. Needs no ONNX."""

# importing the families fills the table of rules, in the order in which a report tells of them
# isort: off
from gradport.check import backward
from gradport.check import kinks
from gradport.check import shapes
from gradport.check import layouts
from gradport.check import contract
from gradport.check import aliasing
from gradport.check import leaks
from gradport.check import second_order
from gradport.check import edges
from gradport.check import dtypes
from gradport.check import autocast
from gradport.check import determinism
from gradport.check import transforms
from gradport.check import cost

# isort: on
from gradport.check.check import check
from gradport.check.conservative import conservative
from gradport.check.equivalent import equivalent
from gradport.check.rules import RULES

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
