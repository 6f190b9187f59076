"""Search: Hypothesis finds an input that satisfies a condition, shrinks it, and saves it."""

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
    """The smallest input found that satisfies a condition, or None.

    Args:
        strategies: searched in order, until one finds an input.
        condition: of arguments and targets by slot.
        memory: saved inputs are tried first; a found input is saved.
        examples: largest number of draws per strategy, without shrinking.
        most: largest number of evaluated inputs, including shrinking.
        seed: of the draws.
    """
    known: dict[bytes, bool] = {}

    def cached_condition(tensors: Tensors) -> bool:
        # Hypothesis evaluates an input twice: the answer must not change, also after the last evaluation
        name = pack(tensors)
        if name not in known:
            known[name] = len(known) < most and condition(tensors)
        return known[name]

    saved = memory.recall(cached_condition)
    if saved is not None:
        return saved
    options = settings(
        max_examples=examples, phases=_PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for strategy in strategies:
        if len(known) >= most:
            return None
        try:
            smallest: Tensors = find(strategy, cached_condition, settings=options, random=random.Random(seed))
        except (NoSuchExample, HypothesisException):  # no such input, or too large to draw
            continue
        memory.keep(smallest)
        return smallest
    return None


def write_tensors(tensors: Mapping[Slot, torch.Tensor]) -> str:
    """Tensors as readable text; long tensors by dtype and shape."""
    return ", ".join(f"{slot.name} = {_literal(tensor)}" for slot, tensor in tensors.items())


def _literal(tensor: torch.Tensor) -> str:
    text = str(tensor.detach().tolist())
    return f"{_dtype(tensor)} {text}" if len(text) <= 120 else f"{_dtype(tensor)}{list(tensor.shape)}"


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
