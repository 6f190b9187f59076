"""The rules of verify, by the names that `only`, `skip` and settings use."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from gradport.errors import SpecError

__all__ = ["QUESTIONS", "VerifyRule", "choose_rules"]


class VerifyRule(enum.StrEnum):
    """A rule; the keys of its Findings begin with its name."""

    AGREES = "agrees-with-eager"
    EDGE_VALUES = "edge-values"
    TIES = "ties"
    DRAWS = "draws"
    CHECKER = "checker"
    VERSIONS = "versions"
    SHAPES = "shapes"
    WHO_IS_WRONG = "who-is-wrong"
    FIRST_NODE = "first-node"


QUESTIONS = {
    VerifyRule.AGREES: "Does every result agree with eager, at random values, sizes, strides and other weights?",
    VerifyRule.EDGE_VALUES: "Does it agree if one element is nan, infinite, the largest number, a subnormal or zero?",
    VerifyRule.TIES: "Does it agree if many elements are equal, whose order PyTorch does not define?",
    VerifyRule.DRAWS: "Do random numbers drawn by the file have the same distribution as in eager?",
    VerifyRule.CHECKER: "Does onnx.checker accept the model?",
    VerifyRule.VERSIONS: "Do the opset and the IR version match?",
    VerifyRule.SHAPES: "Do declared and inferred shapes agree with the shapes at run time?",
    VerifyRule.WHO_IS_WRONG: "If a result differs, which runtime is wrong, or is it the file?",
    VerifyRule.FIRST_NODE: "If a result differs, which is the first node that differs?",
}


def choose_rules(only: Sequence[str], skip: Sequence[str]) -> frozenset[VerifyRule]:
    """The rules that run.

    Raises:
        SpecError: a name is not a rule.
    """
    for name in (*only, *skip):
        if name not in list(VerifyRule):
            raise SpecError(f"{name!r} is not a rule of verify; the rules are {', '.join(VerifyRule)}.")
    return frozenset(rule for rule in VerifyRule if (not only or rule in only) and rule not in skip)
