"""Inputs that make a model depart from eager: looked for, and made small, by Hypothesis."""

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

__all__ = ["explore", "smallest"]

_LARGEST = (1, 2, 5, 13)
"""Limits of the dynamic sizes, one after the other: what fails at a small size is shown at a small size."""

_EXPLORE = 6
"""Inputs that are drawn at each limit where nothing is known to fail."""


_TIED = 4096
"""Elements above which some are equal by chance."""


def explore(verification: Verification, space: Space, most: int) -> InputSet | None:
    """A case on which the first result fails in the first runtime that works, at values and sizes from Hypothesis;
    None where none of at most `most` inputs shows one."""
    names = verification.working()
    if not names or most <= 0 or not verification.roles:
        return None
    first = next(iter(verification.roles))

    def fails(case: InputSet) -> bool:
        return _is_distinct(case) and verification.failing(names[0], first, case) is not None

    return _find_failure(verification, space, "explored", InputSet("", {}), fails, examples=_EXPLORE, most=most)


def smallest(
    verification: Verification, space: Space, runtime: str, result: str, failed: InputSet, most: int
) -> InputSet:
    """The smallest case found on which a result fails in the same way; the given one where none of at most
    `most` inputs is smaller."""
    first = verification.failing(runtime, result, failed)
    if first is None or callable(verification.joint.subject.inputs):
        return failed

    distinct = _is_distinct(failed)

    def fails(case: InputSet) -> bool:
        if distinct and not _is_distinct(case):
            return False
        found = verification.failing(runtime, result, case)
        return found is not None and found.special == first.special

    found = _find_failure(verification, space, f"{runtime} {result}", failed, fails, examples=60, most=most)
    return failed if found is None or _size(found) > _size(failed) else found


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
    """A case that fails; edge values may stand in it, and its cotangents are changed, as in the one that it is like."""
    special = (*specials(torch.float32).values(), *largest(torch.float32).values()) if like.edge else ()
    rest = {
        slot: t for slot, t in verification.joint.examples().items() if slot.role not in (Role.ARGUMENT, Role.TARGET)
    }

    def case(tensors: dict[Slot, torch.Tensor]) -> InputSet:
        return dataclasses.replace(like, what=write_tensors(tensors), tensors=rest | tensors)

    limits = _LARGEST if space.dimensions else _LARGEST[:1]  # they hold for dynamic sizes alone
    found = find_input(
        (strategy_at(verification.joint, space, largest, special) for largest in limits),
        lambda tensors: fails(case(tensors)),
        memory=Memory(verification.joint, f"verify {question} {sorted(space.sizes.items())}"),
        examples=examples,
        most=most,
        seed=verification.seed,
    )
    return None if found is None else case(found)


def _is_distinct(case: InputSet) -> bool:
    """Whether no two elements of a floating-point input are equal: what ties show is no matter of plain values."""
    floating = [
        t for slot, t in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET) and t.is_floating_point()
    ]
    return all(tensor.unique().numel() == tensor.numel() for tensor in floating if tensor.numel() <= _TIED)


def _size(case: InputSet) -> int:
    return sum(tensor.numel() for slot, tensor in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET))
