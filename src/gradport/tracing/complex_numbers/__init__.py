"""Complex numbers as pairs of real numbers. Importing this package fills the table of rules."""

from gradport.tracing.complex_numbers import arithmetic, fourier, places
from gradport.tracing.complex_numbers.writing import write_complex_as_pairs

__all__ = ["arithmetic", "fourier", "places", "write_complex_as_pairs"]
