"""One file per rule. A rule takes a Trial and gives Findings; it is in the table because its file is here."""

import importlib
import pkgutil

from gradport.checking.table import RULES

__all__ = ["RULES"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
