"""Finds cases on which eager crashes: a kernel that accesses invalid memory at nan or inf kills the whole process.

The user's code first runs on edge values in a forked child process, which has all objects. Without fork, or if the
child hangs, no case is excluded.
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

__all__ = ["find_crashes"]

_SECONDS = 120.0
"""Limit of processor time for all cases, in seconds."""

_MOST = 4
"""Number of crashes after which all remaining cases are assumed to crash."""


def find_crashes(verification: Verification, cases: Sequence[InputSet]) -> list[str]:
    """The cases on which eager, in its dtype or in float64, kills its process."""
    crashes: list[str] = []
    left = list(cases)
    while left:
        survived = _count_survived(verification, left)
        if survived is None or survived >= len(left):
            break
        if len(crashes) == _MOST:
            return crashes + [case.what for case in left[survived:]]
        crashes.append(left[survived].what)
        left = left[survived + 1 :]
    return crashes


def _count_survived(verification: Verification, cases: Sequence[InputSet]) -> int | None:
    """The number of cases that the child completed before it was killed; None if unknown."""
    written = run_in_child(functools.partial(_try, verification, cases), _SECONDS)
    if written is None:
        return None
    dots, status = written
    return len(dots) if os.WIFSIGNALED(status) else len(cases)


def _try(verification: Verification, cases: Sequence[InputSet], writing: int) -> None:
    """Runs the cases and writes a dot after each."""
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    for case in cases:
        with contextlib.suppress(BaseException):  # an exception is not a crash
            verification.answer(case).oracle()
        os.write(writing, b".")
