"""Search: inputs that show something, found by Hypothesis, shrunk to the smallest, and remembered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, NoSuchExample

from gradport.eager.inputs.memory import Memory, pack
from gradport.eager.joint import Slot

__all__ = ["find_input", "write_tensors"]

_PHASES = (Phase.generate, Phase.shrink)

Tensors = dict[Slot, torch.Tensor]


def find_input(
    strategies: Iterable[st.SearchStrategy[Tensors]],
    condition: Callable[[Tensors], bool],
    *,
    memory: Memory,
    examples: int,
    most: int,
    seed: int,
) -> Tensors | None:
    """The smallest input found for which a condition holds, or None.

    Args:
        strategies: searched one after the other, until one gives something.
        condition: asked of arguments and targets by slot.
        memory: where what is found is kept, and looked for first.
        examples: how many are drawn at most of each strategy, shrinking not counted.
        most: how many inputs the condition is asked about at most, shrinking counted.
        seed: of the draws.
    """
    known: dict[bytes, bool] = {}

    def remembering(tensors: Tensors) -> bool:
        # what was answered once is answered the same again, also when no more is asked: Hypothesis asks twice
        name = pack(tensors)
        if name not in known:
            known[name] = len(known) < most and condition(tensors)
        return known[name]

    again = memory.recalled(remembering)
    if again is not None:
        return again
    chosen = settings(
        max_examples=examples, phases=_PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for strategy in strategies:
        if len(known) >= most:
            return None
        try:
            found: Tensors = find(strategy, remembering, settings=chosen, random=random.Random(seed))
        except (NoSuchExample, HypothesisException):  # none, or too large to draw
            continue
        memory.keep(found)
        return found
    return None


def write_tensors(tensors: Mapping[Slot, torch.Tensor]) -> str:
    """Tensors as a person would write them; long ones by dtype and shape."""
    return ", ".join(f"{slot.name} = {_literal(tensor)}" for slot, tensor in tensors.items())


def _literal(tensor: torch.Tensor) -> str:
    text = str(tensor.detach().tolist())
    return f"{_dtype(tensor)} {text}" if len(text) <= 120 else f"{_dtype(tensor)}{list(tensor.shape)}"


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
