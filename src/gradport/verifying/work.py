"""How much work one run of a Subject is, counted, so that what is tried does not depend on how busy the machine is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.trees import tree_leaves
from gradport.eager.joint import Joint
from gradport.eager.run import ones, run_eager
from gradport.isolation.effort import Effort
from gradport.proving.answers import InputSet
from gradport.subject.ports import Role

__all__ = ["Allowance", "work_of"]

_CALL = 100_000
"""Units of the call of an operator: a hundred microseconds, where an element takes a nanosecond."""

_EDGES = 4e9
"""Units for the cases with edge values: a case is some ten runs of eager."""

_EXPLORE, _SHRINK = 5e8, 2e9
"""Units for looking for a failure where none is known, and for making one small."""

_SLOW = 4e8
"""Units of the example, beyond which a runtime that is written to be read, not to be fast, is asked about it alone."""

_REPEATED = (24, 100)
"""Inputs at most, of each of the two searches."""


def work_of(joint: Joint) -> float:
    """Units of work of one run on the example: elements that operators give, operations of products, and calls."""
    with _Counting() as counting:
        run_eager(joint, joint.examples(), ones)
    return counting.units


@dataclasses.dataclass
class Allowance:
    """What is left of the work that may be done.

    Attributes:
        unit: units of one run on the example.
        effort: factor of everything.
        edges: units that are left for cases with edge values.
    """

    unit: float
    effort: Effort
    edges: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.edges = _EDGES * self.effort.budget

    def takes(self, case: InputSet, example: InputSet) -> bool:
        """Whether there is work left for a case; takes it where there is."""
        if not case.edge:
            return True
        size = max(_elements(case) / max(_elements(example), 1), 1.0) * self.unit
        self.edges -= size
        return self.edges > 0

    @property
    def explored(self) -> int:
        """Inputs of the search for a failure."""
        return min(int(_EXPLORE * self.effort.budget / self.unit), round(_REPEATED[0] * max(self.effort.budget, 1)))

    @property
    def shrunk(self) -> int:
        """Inputs of the search for a smaller failure."""
        most = round(_REPEATED[1] * self.effort.budget)
        return max(min(int(_SHRINK * self.effort.budget / self.unit), most), 5)

    @property
    def is_large(self) -> bool:
        """Whether a slow runtime is asked about the example alone."""
        return self.unit > _SLOW * self.effort.budget


class _Counting(TorchDispatchMode):
    """Counts while it is open.

    Attributes:
        units: of work.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.units = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operator."""
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        flops = 0 if formula is None else formula(*args, **(kwargs or {}), out_val=result)
        self.units += _CALL + sum(t.numel() for t in made) + flops / 20
        return result


def _elements(case: InputSet) -> int:
    return sum(tensor.numel() for slot, tensor in case.tensors.items() if slot.role in (Role.ARGUMENT, Role.TARGET))
