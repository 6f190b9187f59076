"""FX to ONNX. The exporter that torch ships lowers the forward operators; one file per family of others stands here."""

from gradport.lower import decompositions, families  # importing them fills the table
from gradport.lower.assemble import assemble
from gradport.lower.forms import Form, apply_forms, forms_of
from gradport.lower.lower import Lowered, lower
from gradport.lower.table import OPSETS, decomposition_table

__all__ = [
    "OPSETS",
    "Form",
    "Lowered",
    "apply_forms",
    "assemble",
    "decomposition_table",
    "decompositions",
    "families",
    "forms_of",
    "lower",
]
