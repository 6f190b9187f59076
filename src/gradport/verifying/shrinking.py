"""Searches with Hypothesis for inputs on which a model differs from eager, and shrinks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from gradport.eager.inputs import largest, specials
from gradport.eager.inputs.memory import Memory
from gradport.eager.inputs.search import find_input, write_tensors
from gradport.eager.inputs.strategies import Space, strategy_at
from gradport.eager.joint import Slot
from gradport.proving.answers import InputSet
from gradport.subject.ports import Role
from gradport.verifying.verification import Verification

__all__ = ["explore", "shrink_case"]

_LARGEST = (1, 2, 5, 13)
"""Upper limits of the dynamic sizes, tried in this order, so that a failure is shown at a small size."""

_EXPLORE = 6
"""Number of inputs drawn at each limit if no failure is known."""


_TIED = 4096
"""Number of elements above which some are equal by chance."""


def explore(verification: Verification, space: Space, most: int) -> InputSet | None:
    """A case from Hypothesis on which the first result fails in the first working runtime; None if none of at most
    `most` inputs fails."""
    names = verification.working_runtimes()
    if not names or most <= 0 or not verification.roles:
        return None
    first = next(iter(verification.roles))

    def fails(case: InputSet) -> bool:
        return _is_distinct(case) and verification.find_difference(names[0], first, case) is not None

    return _find_failure(verification, space, "explored", InputSet("", {}), fails, examples=_EXPLORE, most=most)


def shrink_case(
    verification: Verification, space: Space, runtime: str, result: str, failed: InputSet, most: int
) -> InputSet:
    """The smallest case on which a result fails in the same way; `failed` if none of at most `most` inputs is
    smaller."""
    first = verification.find_difference(runtime, result, failed)
    if first is None or callable(verification.joint.subject.inputs):
        return failed

    distinct = _is_distinct(failed)

    def fails(case: InputSet) -> bool:
        if distinct and not _is_distinct(case):
            return False
        comparison = verification.find_difference(runtime, result, case)
        return comparison is not None and comparison.special == first.special

    smaller = _find_failure(verification, space, f"{runtime} {result}", failed, fails, examples=60, most=most)
    return failed if smaller is None or _size(smaller) > _size(failed) else smaller


def _find_failure(
    verification: Verification,
    space: Space,
    question: str,
    like: InputSet,
    fails: Callable[[InputSet], bool],
    *,
    examples: int,
    most: int,
) -> InputSet | None:
    """A case that fails, with the cotangents of `like`, and with edge values if `like` has them."""
    special = (*specials(torch.float32).values(), *largest(torch.float32).values()) if like.edge else ()
    rest = {
        slot: t for slot, t in verification.joint.examples().items() if slot.role not in (Role.ARGUMENT, Role.TARGET)
    }

    def case(tensors: dict[Slot, torch.Tensor]) -> InputSet:
        return dataclasses.replace(like, what=write_tensors(tensors), tensors=rest | tensors)

    limits = _LARGEST if space.dimensions else _LARGEST[:1]  # they apply only to dynamic sizes
    tensors = find_input(
        (strategy_at(verification.joint, space, largest, special) for largest in limits),
        lambda tensors: fails(case(tensors)),
        memory=Memory(verification.joint, f"verify {question} {sorted(space.sizes.items())}"),
        examples=examples,
        most=most,
        seed=verification.seed,
    )
    return None if tensors is None else case(tensors)


def _is_distinct(case: InputSet) -> bool:
    """Whether no two elements of a floating-point input are equal, since ties are judged by their own rule."""
    floating = [
        t for slot, t in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET) and t.is_floating_point()
    ]
    return all(tensor.unique().numel() == tensor.numel() for tensor in floating if tensor.numel() <= _TIED)


def _size(case: InputSet) -> int:
    return sum(tensor.numel() for slot, tensor in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET))
