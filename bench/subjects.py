"""The public Functions of bench/cases.py as Subjects, for `gradport docs --subjects`.

`make pages` makes the site of the packages that they stand in.
"""

from __future__ import annotations

import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from cases import CASES, Case

import gradport

EXPECT = {"RevGrad": "scaled by -0.5"}
"""What is meant where the backward is not the derivative and looks like a mistake."""


def subject(case: Case) -> gradport.Subject:
    args = case.arguments()
    expect = EXPECT.get(case.target.rpartition(":")[2])
    shapes = case.dynamic_shapes(args)
    return gradport.Subject(case.function(), args, wrt="inputs", dynamic_shapes=shapes, expect=expect)


SUBJECTS = [subject(case) for case in CASES]
