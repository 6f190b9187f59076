"""The table of rules: one decorated function a row, from a Trial to Findings."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence

from gradport.checking.probes.trial import Trial
from gradport.errors import SpecError
from gradport.evidence.evidence import Finding
from gradport.isolation.effort import Profile

__all__ = ["RULES", "Rule", "Topic", "choose_rules", "rule"]


class Topic(enum.IntEnum):
    """The question that a rule belongs to; a report has them in this order."""

    GRADIENT = enum.auto()
    INPUTS = enum.auto()
    CONTRACT = enum.auto()
    SECOND_ORDER = enum.auto()
    VALUES = enum.auto()
    CALLS = enum.auto()
    COST = enum.auto()


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        topic: where a report has it.
        name: as users say it.
        question: what it asks.
        answer: the function that answers.
        shrinks: whether it is cheap enough to be asked of many inputs, for the smallest that fails.
        alongside: whether a second worker asks it, so that both have as much to do.
        compiles: whether it uses torch's compiler.
        profiles: the profiles that ask it, the least thorough one first.
    """

    topic: Topic
    name: str
    question: str
    answer: Callable[[Trial], Iterable[Finding]]
    shrinks: bool = True
    alongside: bool = False
    compiles: bool = False
    profiles: tuple[Profile, ...] = tuple(Profile)


RULES: dict[str, Rule] = {}
"""Every rule by its name, in the order of a report. A file in `rules/` registers its own when it is imported."""


def rule(
    topic: Topic,
    name: str,
    question: str,
    *,
    shrinks: bool = True,
    alongside: bool = False,
    compiles: bool = False,
    least: Profile = Profile.QUICK,
) -> Callable[[Callable[[Trial], Iterable[Finding]]], Rule]:
    """Registers a rule under its name; `least` is the least thorough profile that asks it."""
    profiles = tuple(Profile)[tuple(Profile).index(least) :]

    def register(answer: Callable[[Trial], Iterable[Finding]]) -> Rule:
        row = Rule(topic, name, question, answer, shrinks, alongside, compiles, profiles)
        ordered = sorted([*RULES.values(), row], key=lambda one: one.topic)
        RULES.clear()
        RULES.update({one.name: one for one in ordered})
        return row

    return register


def choose_rules(only: Sequence[str], skip: Sequence[str]) -> list[Rule]:
    """The rules to ask, in the table's order.

    Raises:
        SpecError: a name that is not a rule.
    """
    for name in (*only, *skip):
        if name not in RULES:
            raise SpecError(f"{name!r} is not a rule; the rules are {', '.join(RULES)}.")
    return [rule for name, rule in RULES.items() if (not only or name in only) and name not in skip]
