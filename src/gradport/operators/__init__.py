"""Operators that torch's exporter does not lower, or lowers wrongly: the table of them, and one file per family.

In: the arguments of one operator. Out: ONNX operators (`lowering`), other operators of torch (`decomposition`), or the
same above autograd (`replacement`). Never: a look at the graph around it.

A package adds a row of its own with the same three decorators. It names the module of its rows as an entry point of
the group `gradport.operators`, so that every export sees them:

    [project.entry-points."gradport.operators"]
    my_package = "my_package.onnx_rows"
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

for _module in pkgutil.iter_modules(__path__):  # a family registers its rows when it is imported
    importlib.import_module(f"{__name__}.{_module.name}")
