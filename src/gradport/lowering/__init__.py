"""FX to ONNX: the translation of torch's exporter with our rows above it, passes, functions, names.

In: a Trace. Out: a Program that is not proved yet. Never: a run of the Subject or of the model.
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
