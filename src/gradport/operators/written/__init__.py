"""Operators without a backward that a graph could hold, written with operators that have one."""

from gradport.operators.written import (
    alignments,
    bags,
    fourier,
    joining,
    losses,
    packed,
    pairs,
    recurrent,
    resizing,
    sampling,
    sizes,
)
from gradport.operators.written.averages import averages_written
from gradport.operators.written.registry import SparseLayout, Written

__all__ = [
    "SparseLayout",
    "Written",
    "alignments",
    "averages_written",
    "bags",
    "fourier",
    "joining",
    "losses",
    "packed",
    "pairs",
    "recurrent",
    "resizing",
    "sampling",
    "sizes",
]
