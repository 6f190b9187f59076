"""One file per family of operators. Importing this package fills the table."""

from gradport.lower.families import markers, masks

__all__ = ["markers", "masks"]
