"""One file per family of operators. Importing this package fills the table."""

from gradport.lower.families import indexing, markers, numbers, scatter, shapes

__all__ = ["indexing", "markers", "numbers", "scatter", "shapes"]
