"""Which cases eager survives: kernels that read beyond their memory at nan or inf take the whole process with them.

Edge values are tried on the user's code in a child process first, made by fork, which has everything and needs nothing
sent. Where there is no fork, or the child hangs, nothing is found out.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
from collections.abc import Sequence

import torch

from gradport.isolation.child import run_in_child
from gradport.proving.answers import InputSet
from gradport.verifying.verification import Verification

__all__ = ["crashing"]

_SECONDS = 120.0
"""Of processor time, for all cases."""

_MOST = 4
"""Crashes after which the rest of the cases is taken to crash as well."""


def crashing(verification: Verification, cases: Sequence[InputSet]) -> list[str]:
    """The cases on which eager, in its dtype or in float64, kills its process."""
    found: list[str] = []
    left = list(cases)
    while left:
        survived = _count_survived(verification, left)
        if survived is None or survived >= len(left):
            break
        if len(found) == _MOST:
            return found + [case.what for case in left[survived:]]
        found.append(left[survived].what)
        left = left[survived + 1 :]
    return found


def _count_survived(verification: Verification, cases: Sequence[InputSet]) -> int | None:
    """How many cases the child got through before it was killed; None where that cannot be told."""
    found = run_in_child(functools.partial(_try, verification, cases), _SECONDS)
    if found is None:
        return None
    dots, status = found
    return len(dots) if os.WIFSIGNALED(status) else len(cases)


def _try(verification: Verification, cases: Sequence[InputSet], writing: int) -> None:
    """A dot for each case that was survived."""
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    for case in cases:
        with contextlib.suppress(BaseException):  # whatever it raises, it is alive
            verification.answer(case).oracle()
        os.write(writing, b".")
