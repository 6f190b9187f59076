"""Imports the modules and files of users."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from gradport.errors import TargetError
from gradport.subject.paths import importable

__all__ = ["import_place", "load_attribute"]


def load_attribute(target: str) -> Any:
    """Imports `module:attribute` or `path/file.py:attribute`; the attribute may be dotted.

    Raises:
        TargetError: the module cannot be imported, or has no such attribute.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise TargetError(f"{target!r} is not a target; write module:attribute or path/file.py:attribute.")
    module = import_place(place)
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise TargetError(f"{place} has no attribute {attribute!r}{hint}") from None


def import_place(place: str) -> ModuleType:
    """Imports a module by its name, or a Python file by its path; its folder or the working folder is importable then.

    Raises:
        TargetError: it cannot be imported; the message has the line.
    """
    if place.endswith(".py"):
        return _file(place)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise TargetError(
                f"There is no module {error.name!r}; install it, or give a file as path/file.py:attribute."
            ) from error
        raise TargetError(f"{place} cannot be imported: {error}.") from error
    except (Exception, SystemExit) as error:
        raise _import_failure(place, error) from error


def _file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise TargetError(f"{path}: file not found.")
    folder, name = importable(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    standing = sys.modules.get(name)
    if standing is not None and os.path.realpath(getattr(standing, "__file__", None) or "") == os.path.realpath(path):
        return standing
    if standing is not None:
        name = f"{name}_{abs(hash(os.path.realpath(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_failure(path, error) from error
    return module


def _import_failure(place: str, error: BaseException) -> TargetError:
    traceback = error.__traceback__
    line = ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.endswith(os.path.basename(place)):
            line = f" at {file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError):
        line = f" at {error.filename}:{error.lineno}"
    reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return TargetError(f"{place} cannot be imported{line}: {type(error).__name__}: {reason}.")
