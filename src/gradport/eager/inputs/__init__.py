"""Specs and examples to tensors: the first ones, and fresh ones at other values and other sizes."""

from gradport.eager.inputs.edges import edges, in_one_element, largest, layouts, specials, ties
from gradport.eager.inputs.example import with_every_gradient, with_example
from gradport.eager.inputs.fresh import fresh, fresh_within, move_state, shape_at, sizes_of

__all__ = [
    "edges",
    "fresh",
    "fresh_within",
    "in_one_element",
    "largest",
    "layouts",
    "move_state",
    "shape_at",
    "sizes_of",
    "specials",
    "ties",
    "with_every_gradient",
    "with_example",
]
