"""One file per family of operators, each written with other operators of torch. Importing this package fills the
table."""

from gradport.operators.decompositions import (
    activations,
    alignments,
    distances,
    elementwise,
    losses,
    normalization,
    order,
    orthogonal,
    padding,
    pooling,
    reductions,
    scans,
    special,
    spectral,
    triangular,
    views,
)

__all__ = [
    "activations",
    "alignments",
    "distances",
    "elementwise",
    "losses",
    "normalization",
    "order",
    "orthogonal",
    "padding",
    "pooling",
    "reductions",
    "scans",
    "special",
    "spectral",
    "triangular",
    "views",
]
