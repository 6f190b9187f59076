"""Searches for the smallest input of a Trial that shows a failure, and recalls the inputs of earlier runs."""

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

__all__ = ["find_input", "recall_failure", "shrink_failure"]

QUESTIONS = 60
"""Maximum number of inputs tried in one search, including shrinking."""

_LARGEST = (1, 2, 4, 8)
"""Upper limits of the drawn sizes, tried in this order; failures that need larger sizes are not searched for."""

Tensors = dict[Slot, torch.Tensor]


def find_input(trial: Trial, condition: Callable[[Tensors], bool], *, key: str, examples: int) -> Tensors | None:
    """The smallest input found for which a condition holds, or None.

    Args:
        trial: the Trial whose inputs are drawn.
        condition: a function of arguments and targets by slot.
        key: the name under which a found input is stored.
        examples: maximum number of drawn inputs at each size limit, without shrinking.
    """
    # small sizes first: a failing element inside a large input is hard to shrink
    strategies = (strategy(trial.joint, largest) for largest in _LARGEST)
    memory = Memory(trial.joint, key)
    most = trial.effort.count(QUESTIONS // 4, QUESTIONS, 4 * QUESTIONS)
    return search.find_input(strategies, condition, memory=memory, examples=examples, most=most, seed=trial.seed)


def shrink_failure(trial: Trial, rule: Rule, failed: Finding) -> Finding:
    """The Finding at the smallest input that fails in the same way; the original Finding if none is found."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if (finding.key, finding.outcome) == (failed.key, Outcome.FAILED):
                at[pack(tensors)] = finding
                return True
        return False

    tensors = find_input(trial, fails, key=rule.name, examples=trial.effort.count(20, 40, 100))
    if tensors is None:
        return failed
    smallest = at[pack(tensors)]
    # with one element every gradient is the derivative times a factor: the original Finding names the kind
    return dataclasses.replace(smallest if smallest.kind == failed.kind else failed, input=write_tensors(tensors))


def recall_failure(trial: Trial, rule: Rule) -> Finding | None:
    """The Finding of an input that failed in an earlier run and still fails, or None."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if finding.outcome == Outcome.FAILED:
                at[pack(tensors)] = finding
                return True
        return False

    tensors = Memory(trial.joint, rule.name).recall(fails)
    if tensors is None:
        return None
    finding = at[pack(tensors)]
    message = f"{finding.message} (An input of an earlier run, {HOW_TO_FORGET}.)"
    return dataclasses.replace(finding, input=write_tensors(tensors), message=message)


def _findings(trial: Trial, rule: Rule, tensors: Tensors) -> list[Finding]:
    """The rule's Findings for one input; an empty list if the subject rejects it."""
    try:
        return list(rule.answer(trial.at(tensors)))
    except Error:
        return []
