"""Search: inputs that show something, found by Hypothesis, shrunk to the smallest, and remembered."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Mapping

import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import HypothesisException, NoSuchExample

from gradport.check.memory import Memory, packed
from gradport.check.rules import Rule
from gradport.check.trial import Trial
from gradport.errors import Error
from gradport.evidence import Finding
from gradport.inputs import strategy
from gradport.joint import Slot

__all__ = ["remembered", "shown_by", "shrunk", "written"]

SECONDS = 2.0
"""For the search of one input."""

_PHASES = (Phase.generate, Phase.shrink)

_LARGEST = (1, 2, 4, 8)
"""Limits of the sizes that are drawn, one after the other; what goes wrong at large sizes alone is not looked for."""

Tensors = dict[Slot, torch.Tensor]


def shown_by(trial: Trial, condition: Callable[[Tensors], bool], *, key: str, examples: int) -> Tensors | None:
    """The smallest input found for which a condition holds, or None.

    Args:
        trial: whose inputs are drawn.
        condition: asked of arguments and targets by slot.
        key: under which what is found is remembered.
        examples: how many are drawn at most at each limit of size, shrinking not counted.
    """
    deadline = time.monotonic() + SECONDS
    known: dict[bytes, bool] = {}

    def remembering(tensors: Tensors) -> bool:
        # what was answered once is answered the same again, also when time is up: Hypothesis asks twice
        name = packed(tensors)
        if name not in known:
            known[name] = time.monotonic() < deadline and condition(tensors)
        return known[name]

    memory = Memory(trial, key)
    again = memory.recalled(remembering)
    if again is not None:
        return again
    chosen = settings(
        max_examples=examples, phases=_PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for largest in _LARGEST:  # small ones first: values that fail at some place of a large one are hard to make small
        try:
            found: Tensors = find(
                strategy(trial.joint, largest), remembering, settings=chosen, random=random.Random(trial.seed)
            )
        except (NoSuchExample, HypothesisException):  # none, or too large to draw
            continue
        memory.keep(found)
        return found
    return None


def shrunk(trial: Trial, rule: Rule, failed: Finding) -> Finding:
    """The Finding at the smallest input that fails in the same way; as it was where none is found."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if (finding.key, finding.outcome) == (failed.key, "failed"):
                at[packed(tensors)] = finding
                return True
        return False

    found = shown_by(trial, fails, key=rule.name, examples=40)
    if found is None:
        return failed
    smallest = at[packed(found)]
    # at one element everything is the derivative scaled by something: what it is, is said of the example
    return dataclasses.replace(smallest if smallest.kind == failed.kind else failed, input=written(found))


def remembered(trial: Trial, rule: Rule) -> Finding | None:
    """What an input that failed in an earlier run still fails with, or None."""
    at: dict[bytes, Finding] = {}

    def fails(tensors: Tensors) -> bool:
        for finding in _findings(trial, rule, tensors):
            if finding.outcome == "failed":
                at[packed(tensors)] = finding
                return True
        return False

    found = Memory(trial, rule.name).recalled(fails)
    if found is None:
        return None
    finding = at[packed(found)]
    message = f"{finding.message} (An input of an earlier run.)"
    return dataclasses.replace(finding, input=written(found), message=message)


def written(tensors: Mapping[Slot, torch.Tensor]) -> str:
    """Tensors as a person would write them; long ones by dtype and shape."""
    return ", ".join(f"{slot.name} = {_literal(tensor)}" for slot, tensor in tensors.items())


def _literal(tensor: torch.Tensor) -> str:
    text = str(tensor.detach().tolist())
    return f"{_dtype(tensor)} {text}" if len(text) <= 120 else f"{_dtype(tensor)}{list(tensor.shape)}"


def _findings(trial: Trial, rule: Rule, tensors: Tensors) -> list[Finding]:
    """What the rule says of one input; nothing where the subject rejects it."""
    try:
        return list(rule.answer(trial.at(tensors)))
    except Error:
        return []


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
