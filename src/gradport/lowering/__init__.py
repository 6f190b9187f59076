"""From FX to ONNX: torch's exporter with gradport's rows first, then passes, functions and names.

Input: a Trace. Output: a Program that is not yet checked. Never runs the Subject or the model.
"""

from gradport.lowering.assemble import assemble
from gradport.lowering.forms import Form, apply_forms, forms_of
from gradport.lowering.lower import FlatModel, lower
from gradport.lowering.outline import OutlinedModel
from gradport.operators.table import OPSETS, decomposition_table

__all__ = [
    "OPSETS",
    "FlatModel",
    "Form",
    "OutlinedModel",
    "apply_forms",
    "assemble",
    "decomposition_table",
    "forms_of",
    "lower",
]
