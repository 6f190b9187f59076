"""The inputs of a Trial that show something, the smallest of them, and those of earlier runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from gradport.checking.probes.trial import Trial
from gradport.checking.table import Rule
from gradport.eager.inputs import search
from gradport.eager.inputs.memory import HOW_TO_FORGET, Memory, pack
from gradport.eager.inputs.search import write_tensors
from gradport.eager.inputs.strategies import strategy
from gradport.eager.joint import Slot
from gradport.errors import Error
from gradport.evidence.evidence import Finding, Outcome

__all__ = ["find_input", "recall_failure", "shrunk"]

QUESTIONS = 60
"""How many inputs are asked about at most for one search, shrinking included."""

_LARGEST = (1, 2, 4, 8)
"""Limits of the sizes that are drawn, one after the other; what goes wrong at large sizes alone is not looked for."""

Tensors = dict[Slot, torch.Tensor]


def find_input(trial: Trial, condition: Callable[[Tensors], bool], *, key: str, examples: int) -> Tensors | None:
    """The smallest input found for which a condition holds, or None.

    Args:
        trial: whose inputs are drawn.
        condition: asked of arguments and targets by slot.
        key: under which what is found is remembered.
        examples: how many are drawn at most at each limit of size, shrinking not counted.
    """
    # small ones first: values that fail at some place of a large one are hard to make small
    strategies = (strategy(trial.joint, largest) for largest in _LARGEST)
    memory = Memory(trial.joint, key)
    most = trial.effort.count(QUESTIONS // 4, QUESTIONS, 4 * QUESTIONS)
    return search.find_input(strategies, condition, memory=memory, examples=examples, most=most, seed=trial.seed)


def shrunk(trial: Trial, rule: Rule, failed: Finding) -> Finding:
    """The Finding at the smallest input that fails in the same way; as it was where none is found."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if (finding.key, finding.outcome) == (failed.key, Outcome.FAILED):
                at[pack(tensors)] = finding
                return True
        return False

    found = find_input(trial, fails, key=rule.name, examples=trial.effort.count(20, 40, 100))
    if found is None:
        return failed
    smallest = at[pack(found)]
    # at one element everything is the derivative scaled by something: what it is, is said of the example
    return dataclasses.replace(smallest if smallest.kind == failed.kind else failed, input=write_tensors(found))


def recall_failure(trial: Trial, rule: Rule) -> Finding | None:
    """What an input that failed in an earlier run still fails with, or None."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if finding.outcome == Outcome.FAILED:
                at[pack(tensors)] = finding
                return True
        return False

    found = Memory(trial.joint, rule.name).recall(fails)
    if found is None:
        return None
    finding = at[pack(found)]
    message = f"{finding.message} (An input of an earlier run, {HOW_TO_FORGET}.)"
    return dataclasses.replace(finding, input=write_tensors(found), message=message)


def _findings(trial: Trial, rule: Rule, tensors: Tensors) -> list[Finding]:
    """What the rule says of one input; nothing where the subject rejects it."""
    try:
        return list(rule.answer(trial.at(tensors)))
    except Error:
        return []
