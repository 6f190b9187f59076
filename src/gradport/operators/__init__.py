"""Operators that torch's exporter does not lower, or lowers wrongly: the operator table, and one file per family.

Input: the arguments of one operator. Output: ONNX operators (`lowering`), other torch operators (`decomposition`), or
other torch functions above autograd (`replacement`). Never: access to the surrounding graph. Another package adds rows
with the same three decorators. It names the module of its rows as an entry point of the group `gradport.operators`, so
that every export uses them: [project.entry-points."gradport.operators"] my_package = "my_package.onnx_rows"
"""

import importlib
import pkgutil

from gradport.operators.samples import Sample, Values, booleans, integers, reals, sample
from gradport.operators.table import (
    Kind,
    Row,
    decomposition,
    lowering,
    op,
    replacement,
    rows,
    used_rows,
)

__all__ = [
    "Kind",
    "Row",
    "Sample",
    "Values",
    "booleans",
    "decomposition",
    "integers",
    "lowering",
    "op",
    "reals",
    "replacement",
    "rows",
    "sample",
    "used_rows",
]

for _module in pkgutil.iter_modules(__path__):  # importing a family registers its rows
    importlib.import_module(f"{__name__}.{_module.name}")
