"""The table of rules. Each row is one decorated function from a Trial to Findings."""

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
    """The section of a report that a rule belongs to, in the order of the report."""

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
        topic: its section in a report.
        name: its name for users.
        question: the question that it answers.
        answer: the function that runs it.
        shrinks: whether it is cheap enough to search for the smallest input that fails.
        alongside: whether the second worker runs it, which balances the two workers.
        compiles: whether it uses torch's compiler.
        profiles: the profiles that include it, the least thorough first.
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
"""All rules by name, in the order of a report. Importing a file of `rules/` registers its rule."""


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
    """Registers a rule under its name; `least` is the least thorough profile that includes it."""
    profiles = tuple(Profile)[tuple(Profile).index(least) :]

    def register(answer: Callable[[Trial], Iterable[Finding]]) -> Rule:
        row = Rule(topic, name, question, answer, shrinks, alongside, compiles, profiles)
        ordered = sorted([*RULES.values(), row], key=lambda one: one.topic)
        RULES.clear()
        RULES.update({one.name: one for one in ordered})
        return row

    return register


def choose_rules(only: Sequence[str], skip: Sequence[str]) -> list[Rule]:
    """The rules to run, in the order of the table.

    Raises:
        SpecError: a name that is not a rule.
    """
    for name in (*only, *skip):
        if name not in RULES:
            raise SpecError(f"{name!r} is not a rule; the rules are {', '.join(RULES)}.")
    return [rule for name, rule in RULES.items() if (not only or name in only) and name not in skip]
