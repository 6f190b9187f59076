"""Operators without a backward that a graph could hold, written with operators that have one."""

from gradport.capture.written import bags, losses, packed, recurrent, sampling
from gradport.capture.written.registry import SparseLayout, Written

__all__ = ["SparseLayout", "Written", "bags", "losses", "packed", "recurrent", "sampling"]
