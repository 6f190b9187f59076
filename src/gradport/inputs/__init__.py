"""Specs and examples to tensors: the first ones, and fresh ones at other values and other sizes."""

from gradport.inputs.example import with_example
from gradport.inputs.fresh import fresh, sizes_of
from gradport.inputs.strategies import strategy

__all__ = ["fresh", "sizes_of", "strategy", "with_example"]
