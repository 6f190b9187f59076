"""Input tensors from specs and examples: the example, and new inputs with other values and other sizes."""

from gradport.eager.inputs.edges import edges, largest, layouts, set_one_element, specials, ties
from gradport.eager.inputs.example import has_dynamic, with_every_gradient, with_example
from gradport.eager.inputs.fresh import draw_inputs, draw_inputs_within, move_state, shape_at, sizes_of

__all__ = [
    "draw_inputs",
    "draw_inputs_within",
    "edges",
    "has_dynamic",
    "largest",
    "layouts",
    "move_state",
    "set_one_element",
    "shape_at",
    "sizes_of",
    "specials",
    "ties",
    "with_every_gradient",
    "with_example",
]
