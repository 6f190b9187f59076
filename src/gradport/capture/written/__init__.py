"""Operators without a backward that a graph could hold, written with operators that have one."""

from gradport.capture.written import (
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
from gradport.capture.written.averages import averages_written
from gradport.capture.written.registry import SparseLayout, Written

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
