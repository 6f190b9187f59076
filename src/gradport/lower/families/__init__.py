"""One file per family of operators. Importing this package fills the table."""

from gradport.lower.families import indexing, markers, scatter, shapes

__all__ = ["indexing", "markers", "scatter", "shapes"]
