"""The rules of verify: what it asks, by the names that `only`, `skip` and settings use."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from gradport.errors import SpecError

__all__ = ["QUESTIONS", "VerifyRule", "chosen_rules"]


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
    VerifyRule.AGREES: "Is every result eager's, at fresh values, sizes and strides, and with other weights?",
    VerifyRule.EDGE_VALUES: "And where one element is nan, infinite, the largest, a subnormal or zero?",
    VerifyRule.TIES: "And where many elements are equal, whose order torch leaves open?",
    VerifyRule.DRAWS: "Are numbers that the file draws by itself distributed as eager's?",
    VerifyRule.CHECKER: "Does onnx.checker take the model?",
    VerifyRule.VERSIONS: "Do the opset and the IR version fit?",
    VerifyRule.SHAPES: "Are declared and inferred shapes those of the runs?",
    VerifyRule.WHO_IS_WRONG: "Which of all runtimes is wrong where a result differs?",
    VerifyRule.FIRST_NODE: "At which node does it begin?",
}


def chosen_rules(only: Sequence[str], skip: Sequence[str]) -> frozenset[VerifyRule]:
    """The rules that are asked.

    Raises:
        SpecError: a name that is not a rule.
    """
    for name in (*only, *skip):
        if name not in list(VerifyRule):
            raise SpecError(f"{name!r} is not a rule of verify; the rules are {', '.join(VerifyRule)}.")
    return frozenset(rule for rule in VerifyRule if (not only or rule in only) and rule not in skip)
