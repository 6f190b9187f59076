"""Finds the user's own line: the innermost frame outside of torch, Python's library and gradport."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import sysconfig
import types

import torch

__all__ = ["Place", "here", "place_of_error"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOREIGN = tuple(path + os.sep for path in (os.path.dirname(os.path.abspath(torch.__file__)), _PACKAGE))
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of source code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def here() -> Place | None:
    """The user's line that is running now, or None."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        if frame.f_code.co_name == "__call__" and frame.f_code.co_filename.endswith(_JOINT):
            return None  # code that called gradport does not belong to the subject
        frame = frame.f_back
    return None


def place_of_error(error: BaseException) -> Place | None:
    """The user's innermost line in an error's traceback, below the subject's call."""
    place = None
    traceback = error.__traceback__
    inside = False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        inside = inside or code.co_filename.endswith(_JOINT)
        if inside and _is_users(code.co_filename):
            place = Place(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next
    return place


_JOINT = os.sep + os.path.join("gradport", "eager", "joint.py")


@functools.cache
def _is_users(filename: str) -> bool:
    if filename.startswith("<") and not filename.startswith("<stdin"):
        return filename.startswith("<ipython")
    path = os.path.abspath(filename)
    if path.startswith(_FOREIGN):
        return False
    return not path.startswith(_STDLIB) or "site-packages" in path
