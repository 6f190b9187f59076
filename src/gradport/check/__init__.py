"""Is the Function right? What its backward is, and whether that was meant. Needs no ONNX."""

# importing the families fills the table of rules
from gradport.check import (
    aliasing,
    backward,
    contract,
    cost,
    determinism,
    dtypes,
    edges,
    kinks,
    layouts,
    leaks,
    second_order,
    shapes,
    transforms,
)
from gradport.check.check import check
from gradport.check.conservative import conservative
from gradport.check.equivalent import equivalent
from gradport.check.rules import RULES

__all__ = [
    "RULES",
    "aliasing",
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
