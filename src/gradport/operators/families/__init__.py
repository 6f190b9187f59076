"""One file per family of operators. Importing this package fills the table."""

from gradport.operators.families import (
    bits,
    constants,
    convolution,
    indexing,
    markers,
    numbers,
    pooling,
    scatter,
    shapes,
    signs,
)

__all__ = [
    "bits",
    "constants",
    "convolution",
    "indexing",
    "markers",
    "numbers",
    "pooling",
    "scatter",
    "shapes",
    "signs",
]
