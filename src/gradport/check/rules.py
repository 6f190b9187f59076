"""The table of rules: one decorated function a row, from a Trial to Findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from gradport.check.trial import Trial
from gradport.errors import SpecError
from gradport.evidence import Finding

__all__ = ["RULES", "Rule", "chosen", "rule"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: as users say it.
        question: what it asks.
        answer: the function that answers.
        shrinks: whether it is cheap enough to be asked of many inputs, for the smallest that fails.
        isolated: whether it feeds a subject what may crash or hang it, and so runs in a process of its own.
        thorough: whether the default profile leaves it out.
    """

    name: str
    question: str
    answer: Callable[[Trial], Iterable[Finding]]
    shrinks: bool = True
    isolated: bool = False
    thorough: bool = False


RULES: dict[str, Rule] = {}


def rule(
    name: str, question: str, *, shrinks: bool = True, isolated: bool = False, thorough: bool = False
) -> Callable[[Callable[[Trial], Iterable[Finding]]], Rule]:
    """Registers a rule under its name."""

    def register(answer: Callable[[Trial], Iterable[Finding]]) -> Rule:
        RULES[name] = Rule(name, question, answer, shrinks, isolated, thorough)
        return RULES[name]

    return register


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[Rule]:
    """The rules to ask, in the table's order.

    Raises:
        SpecError: a name that is no rule.
    """
    for name in (*only, *skip):
        if name not in RULES:
            raise SpecError(f"{name!r} is no rule; the rules are {', '.join(RULES)}.")
    return [rule for name, rule in RULES.items() if (not only or name in only) and name not in skip]
